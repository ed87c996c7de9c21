"""Let a language model of a run write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.cli.alone import refuse_ranks
from allgrad.errors import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad sample`."""
    parser.add_argument("folder", metavar="RUN", help="the run's folder")
    parser.add_argument("--prompt", help="the text to continue (default: a new line)")
    parser.add_argument("--length", type=int, default=400, help="tokens to add (default 400)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest (default 0.8)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another text")
    parser.add_argument("--best", action="store_true", help="the checkpoint with the best metric, not the newest")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers parts"
    )


def run(arguments: argparse.Namespace) -> int:
    """`allgrad sample`."""
    from allgrad.train.generate import sample_text
    from allgrad.train.run.model import load_model

    if arguments.prompt == "" or arguments.length < 1 or arguments.temperature < 0:
        raise UsageError("--prompt must not be empty, --length at least 1, --temperature at least 0")
    refuse_ranks("sample")
    loaded = load_model(arguments.folder, best=arguments.best, plugins=arguments.plugin)
    if loaded.info.kind != "tokens":
        raise UsageError(f"{arguments.folder} was trained on {loaded.info.kind}, not on tokens; it cannot write.")
    text = sample_text(
        loaded.model, loaded.info.extra, context=loaded.info.input_shape[0], length=arguments.length,
        prompt=arguments.prompt, temperature=arguments.temperature, seed=arguments.seed,
    )  # fmt: skip
    print(text)
    return 0
