"""Training from a configuration: reading it, running it, using its results.

    from allgrad.train import Trainer, resolve

    trainer = Trainer(resolve("package:diamonds.yaml", ["train.steps=100"]), comm.init())
    trainer.run(Path("runs/mine"))

    load_model("runs/mine").model(inputs)

Importing this package is cheap: the trainer and the configuration come at their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from allgrad.train.config.registry import register_callback as register_callback
from allgrad.train.config.registry import register_dataset as register_dataset
from allgrad.train.config.registry import register_exchange as register_exchange
from allgrad.train.config.registry import register_logger as register_logger
from allgrad.train.config.registry import register_loss as register_loss
from allgrad.train.config.registry import register_metric as register_metric
from allgrad.train.config.registry import register_model as register_model
from allgrad.train.config.registry import register_optimizer as register_optimizer
from allgrad.train.config.registry import register_schedule as register_schedule

if TYPE_CHECKING:
    from allgrad.train.callbacks import Callback as Callback
    from allgrad.train.config.resolution import resolve as resolve
    from allgrad.train.loggers.base import Logger as Logger
    from allgrad.train.run.model import load_model as load_model
    from allgrad.train.trainer import Trainer as Trainer

_LAZY = {
    "Callback": "allgrad.train.callbacks",
    "Logger": "allgrad.train.loggers.base",
    "Trainer": "allgrad.train.trainer",
    "load_model": "allgrad.train.run.model",
    "resolve": "allgrad.train.config.resolution",
}

__all__ = [
    "Callback",
    "Logger",
    "Trainer",
    "load_model",
    "register_callback",
    "register_dataset",
    "register_exchange",
    "register_logger",
    "register_loss",
    "register_metric",
    "register_model",
    "register_optimizer",
    "register_schedule",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'allgrad.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
