"""Write a page about one or several runs: curves, the timeline of a step, held-out predictions, and how to repeat them.

The page is a single file that needs no network. It also works for a run that is still going, and for one that failed. Needs
the extra `allgrad[report]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_best, add_plugins

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad report`."""
    parser.add_argument("directories", metavar="RUN", nargs="+", help="the directories of the runs")
    text = "where to write (default: report.html, in the run's directory, or here for several runs)"
    parser.add_argument("-o", "--output", metavar="FILE", help=text)
    parser.add_argument("--no-evaluate", action="store_true", help="do not evaluate the model on its held-out data")
    add_best(parser)
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad report`."""
    from allgrad.report import write_report

    page = write_report(
        arguments.directories,
        arguments.output,
        evaluate=not arguments.no_evaluate,
        best=arguments.best,
        plugins=arguments.plugin,
    )
    print(f"the report is in {page}")
    return 0
