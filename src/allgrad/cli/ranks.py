"""Print how many ranks fit a configuration on this machine: what `-n auto` starts.

One for each physical core that this process may use (affinity, container), fewer if a rank has several BLAS threads, and at
most one for each virtual worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_config, add_plugins
from allgrad.comm import cores

if TYPE_CHECKING:
    import argparse

    from allgrad.train.config.schema import RunConfig

__all__ = ["configure", "fitting", "fitting_here", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad ranks`."""
    add_config(parser)
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad ranks`: print the number."""
    from allgrad.train.config import resolve

    print(fitting_here(resolve(arguments.config, arguments.overrides, plugins=arguments.plugin)))
    return 0


def fitting_here(config: RunConfig) -> int:
    """The number of ranks for a configuration on this machine."""
    available = min(cores.physical_cores(cores.affinity()), cores.quota())
    return fitting(available, config.parallel.blas_threads, config.batch.virtual_workers)


def fitting(available: float, blas_threads: int, virtual_workers: int) -> int:
    """The number of ranks for so many cores: at least one, at most one per virtual worker.

    >>> fitting(16, 1, 8), fitting(6, 2, 8), fitting(0.5, 1, 8)
    (8, 3, 1)
    """
    return max(1, min(int(available // blas_threads), virtual_workers))
