"""Evaluate a run's model on its held-out data, in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_best, add_plugins, add_run
from allgrad.errors import NonFiniteError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad eval`."""
    add_run(parser, overrides="data.path=...")
    add_best(parser)
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad eval`: print the metrics as JSON.

    Raises:
        NonFiniteError: after printing, if a metric is NaN or infinite.
    """
    from allgrad.train.atomic import json_safe
    from allgrad.train.evaluation import non_finite
    from allgrad.train.run.build import load_trainer

    trainer = load_trainer(arguments.directory, arguments.overrides, best=arguments.best, plugins=arguments.plugin)
    found = trainer.evaluate()
    print(json.dumps(json_safe({"step": trainer.progress.step, **found})), flush=True)
    if wrong := non_finite(found):
        raise NonFiniteError(f"Not finite on these data: {', '.join(wrong)}. Look for NaN or infinity in the data.")
    return 0
