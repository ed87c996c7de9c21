"""Evaluate a run's model on its held-out data, in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
    from allgrad.train.run.build import load_model

    trainer = load_model(arguments.folder, arguments.overrides, best=arguments.best, plugins=arguments.plugin)
    print(json.dumps(json_safe({"step": trainer.step, **trainer.evaluate()})))
    return 0
