"""Evaluate a run's model on its held-out data, in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allgrad.cli.alone import refuse_ranks
from allgrad.errors import NonFiniteError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad eval`."""
    parser.add_argument("folder", metavar="RUN", help="the run's folder")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="what is changed, such as data.path=...")
    parser.add_argument("--best", action="store_true", help="the checkpoint with the best metric, not the newest")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers parts"
    )


def run(arguments: argparse.Namespace) -> int:
    """`allgrad eval`: metrics as JSON on standard output."""
    from allgrad.train.atomic import json_safe
    from allgrad.train.evaluation import non_finite
    from allgrad.train.run.build import load_trainer

    refuse_ranks("eval")
    trainer = load_trainer(arguments.folder, arguments.overrides, best=arguments.best, plugins=arguments.plugin)
    found = trainer.evaluate()
    print(json.dumps(json_safe({"step": trainer.progress.step, **found})), flush=True)
    if wrong := non_finite(found):
        raise NonFiniteError(f"{', '.join(wrong)}: not a finite number on this data. Look for NaN or infinity in it.")
    return 0
