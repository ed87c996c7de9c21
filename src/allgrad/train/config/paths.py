"""Paths in a configuration: those of inputs are relative to the file that says them, a run stores them absolute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from allgrad.train.config.errors import Mistake
from allgrad.train.config.registry import Location
from allgrad.train.config.schema import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from allgrad.train.config.schema import RunConfig

__all__ = ["absolute_paths", "check_environment"]

S = TypeVar("S", bound=Section)
Path_ = tuple[str | int, ...]


def absolute_paths(section: S, directory: Callable[[Path_], Path | None], at: Path_ = ()) -> S:
    """`section` with every option that is marked as a `Location` made absolute.

    Names of files that come with allgrad (`package:...`) stay as they are; `~` becomes the home directory.

    Args:
        directory: from a key's path to the directory that the key's value is relative to; None leaves the value as it is.
        at: where `section` is in the configuration.
    """
    changes: dict[str, Any] = {}
    for path, value, location in _fields(section, at):
        if isinstance(value, Section):
            changes[str(path[-1])] = absolute_paths(value, directory, path)
        elif isinstance(value, tuple) and any(isinstance(part, Section) for part in value):
            parts = (absolute_paths(part, directory, (*path, place)) for place, part in enumerate(value))
            changes[str(path[-1])] = tuple(parts)
        elif location is not None and (base := directory(path)) is not None:
            changes[str(path[-1])] = _absolute(value, Path.cwd() if location.output else base)
    return section.model_copy(update=changes)


def _absolute(value: Any, base: Path) -> Any:
    """A path, or each of several, made absolute."""
    if isinstance(value, tuple):
        return tuple(_absolute(part, base) for part in value)
    if isinstance(value, str) and not value.startswith("package:"):
        return os.path.abspath(base / os.path.expanduser(value))
    return value


def check_environment(
    config: RunConfig, from_environment: Mapping[Path_, str], locate: Callable[[Path_], str]
) -> list[Mistake]:
    """Refuse environment variables in what is not a path: they would be stored with the run.

    Args:
        from_environment: the keys whose values contain an environment variable, with its name.
    """
    allowed = set(_locations(config, ()))
    return [
        Mistake(
            ".".join(map(str, path)),
            f"${{env:{name}}} is accepted only in a path, because a run stores its configuration. Give the value as an "
            f'override: {".".join(map(str, path))}="${name}".',
            locate(path),
        )
        for path, name in from_environment.items()
        if path not in allowed
    ]


def _locations(section: Section, at: Path_) -> Iterator[Path_]:
    for path, value, location in _fields(section, at):
        if location is not None:
            yield path
        for part, where in [(value, path)] if isinstance(value, Section) else _parts(value, path):
            yield from _locations(part, where)


def _parts(value: Any, path: Path_) -> list[tuple[Section, Path_]]:
    """The sections in a list of components."""
    parts = enumerate(value) if isinstance(value, tuple) else ()
    return [(part, (*path, place)) for place, part in parts if isinstance(part, Section)]


def _fields(section: Section, at: Path_) -> Iterator[tuple[Path_, Any, Location | None]]:
    """Of each field: its path in the configuration, its value, and its mark if the value is a path."""
    for key, field in type(section).model_fields.items():
        mark = next((mark for mark in field.metadata if isinstance(mark, Location)), None)
        yield (*at, key), getattr(section, key), mark
