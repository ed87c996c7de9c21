"""Continue a run from its newest whole checkpoint, on any number of ranks. It ends in the bits of a run that never stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_run, rank_count
from allgrad.cli.job import run_job
from allgrad.cli.train import add_options, option_words, options_of, post_mortem, print_notes, run_to_the_end

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad resume`."""
    add_run(parser, overrides="train.steps=2000")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad resume`."""
    options = options_of(arguments)
    if arguments.ranks is not None:
        return _on_ranks(arguments)
    from allgrad.train.run.build import resume_run

    def resume() -> int:
        trainer, directory, notes = resume_run(arguments.directory, arguments.overrides, options)
        print_notes(trainer, notes)
        return run_to_the_end(trainer, directory)

    return post_mortem(resume) if arguments.debug else resume()


def _on_ranks(arguments: argparse.Namespace) -> int:
    """Start the ranks that continue a run."""
    from allgrad.cli.ranks import fitting_here
    from allgrad.train.config import resolve
    from allgrad.train.run.directory import open_run_directory

    config = resolve(open_run_directory(arguments.directory) / "config.yaml", plugins=arguments.plugin)
    ranks = rank_count(arguments.ranks) or fitting_here(config)
    return run_job(
        ranks, "resume", arguments.directory, *arguments.overrides, *option_words(arguments), survive=arguments.survive
    )
