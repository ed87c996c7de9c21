"""Let a run's language model write. Its training data are not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_best, add_plugins, add_run
from allgrad.errors import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad sample`."""
    add_run(parser)
    parser.add_argument("--prompt", help="the text to continue (default: a new line)")
    parser.add_argument("--length", type=int, default=400, help="tokens to add (default: 400)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (default: 0.8)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another text (default: 0)")
    add_best(parser)
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad sample`: print the text."""
    from allgrad.train.generate import sample_text
    from allgrad.train.run.model import load_model

    if arguments.prompt == "" or arguments.length < 1 or not arguments.temperature >= 0:
        raise UsageError("--prompt must not be empty, --length must be at least 1, and --temperature at least 0.")
    loaded = load_model(arguments.directory, best=arguments.best, plugins=arguments.plugin)
    if loaded.info.kind != "tokens":
        raise UsageError(f"{arguments.directory} was trained on {loaded.info.kind}, not on tokens; it cannot write.")
    text = sample_text(
        loaded.model, loaded.info.extra, context=loaded.info.input_shape[0], length=arguments.length,
        prompt=arguments.prompt, temperature=arguments.temperature, seed=arguments.seed,
    )  # fmt: skip
    print(text)
    return 0
