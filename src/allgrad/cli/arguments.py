"""Arguments that several commands share, each declared once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.errors import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["add_best", "add_config", "add_plugins", "add_ranks", "add_run", "plugin_words", "rank_count"]


def add_config(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """CONFIG [key=value ...]"""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?" if optional else None, help="a YAML file, or package:NAME"
    )
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="changes to it")


def add_run(parser: argparse.ArgumentParser, *, overrides: str = "") -> None:
    """RUN [key=value ...]; `overrides` is an example of a change, or "" for a command that takes none."""
    parser.add_argument("directory", metavar="RUN", help="the run's directory")
    if overrides:
        parser.add_argument("overrides", metavar="key=value", nargs="*", help=f"changes, such as {overrides}")


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """--plugin FILE|MODULE, any number of times"""
    text = "Python file or module that registers components"
    parser.add_argument("--plugin", action="append", default=[], metavar="PLUGIN", help=text)


def add_best(parser: argparse.ArgumentParser) -> None:
    """--best"""
    text = "use the checkpoint with the best metric, not the newest"
    parser.add_argument("--best", action="store_true", help=text)


def add_ranks(parser: argparse.ArgumentParser) -> None:
    """-n RANKS|auto"""
    text = "start this many ranks with mpirun; auto: one per core, at most one per virtual worker"
    parser.add_argument("-n", dest="ranks", metavar="RANKS", help=text)


def rank_count(text: str) -> int | None:
    """What `-n` says: a number, or None for `auto`.

    Raises:
        UsageError: it is neither.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"-n must be a positive number or auto, got {text!r}.")
    return int(text)


def plugin_words(plugins: list[str]) -> list[str]:
    """The same plugins as arguments of another command.

    >>> plugin_words(["a.py", "b"])
    ['--plugin', 'a.py', '--plugin', 'b']
    """
    return [word for plugin in plugins for word in ("--plugin", plugin)]
