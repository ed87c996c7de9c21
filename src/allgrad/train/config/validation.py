"""What two keys of a configuration must be to each other and to the data, and how long the run is that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from allgrad.train.config import registry
from allgrad.train.config.errors import ConfigError, Problem
from allgrad.train.config.sources import EXCLUSIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allgrad.data import DataInfo
    from allgrad.train.components.losses import TrainLoss
    from allgrad.train.config.schema import RunConfig

__all__ = ["RunPlan", "check_monitor", "check_parts", "check_together", "plan_run"]

Locate = "Callable[[tuple[str | int, ...]], str]"


@dataclass(frozen=True)
class RunPlan:
    """The length of a run, in steps.

    Attributes:
        steps: in all.
        steps_per_epoch: global batches in one pass over the training data.
        warmup: over which the learning rate rises.
        eval_every: between evaluations; 0: at the end only.
    """

    steps: int
    steps_per_epoch: int
    warmup: int
    eval_every: int


def check_together(config: RunConfig, locate: Callable[[tuple[str | int, ...]], str]) -> list[Problem]:
    """Everything that is wrong between keys and that needs no data to be seen."""
    found = [*_exactly_one(config), *_batch(config), *_train(config), *_parallel(config), *_logging(config)]
    return [Problem(locate(tuple(key.split("."))), key, expected, got, hint) for key, expected, got, hint in found]


def plan_run(config: RunConfig, samples: int) -> tuple[RunPlan, list[tuple[str, str, str, str]]]:
    """The run's length for a training set of `samples`, and what is wrong with it: (key, expected, got, way out)."""
    per_epoch = -(-samples // config.batch.size)
    steps = config.train.steps or (config.train.epochs or 0) * per_epoch
    wanted = config.train.eval_every
    every = per_epoch if wanted == "epoch" else (wanted or 0)
    return RunPlan(steps, per_epoch, _warmup(config, steps), every), list(_warmup_fits(config, steps))


def check_parts(config: RunConfig, info: DataInfo) -> None:
    """Refuse, once the data are known, parts that are for data of another kind.

    Raises:
        ConfigError: naming those that fit.
    """
    found = []
    for key, kind, part in (("model", registry.models, config.model), ("loss", registry.losses, config.loss)):
        fitting = kind.names(info.kind)
        if part.name not in fitting:
            expected = f"one for {info.kind}, which the data are: {', '.join(fitting)}"
            found.append(Problem("configuration", f"{key}.name", expected, part.name, ""))
    if config.logging.sample and not (info.kind == "tokens" and info.extra.get("unit") in ("characters", "bytes")):
        expected = "0: only a run on text can write some at its end"
        found.append(Problem("configuration", "logging.sample", expected, str(config.logging.sample), ""))
    if found:
        raise ConfigError(found)


def check_monitor(metric: str, loss: TrainLoss) -> None:
    """Refuse, before the first step, a monitored metric that the loss does not report.

    Raises:
        ConfigError: naming those that it does.
    """
    if metric not in loss.reports:
        expected = f"one that the loss reports: {', '.join(loss.reports)}"
        raise ConfigError([Problem("configuration", "train.monitor.metric", expected, metric, "")])


_Finding = tuple[str, str, str, str]


def _exactly_one(config: RunConfig) -> Iterator[_Finding]:
    for pair in EXCLUSIVE:
        section = getattr(config, pair[0][0])
        given = [path[1] for path in pair if getattr(section, path[1]) is not None]
        keys = " and ".join(f"{path[0]}.{path[1]}" for path in pair)
        if len(given) == 2:
            yield f"{pair[0][0]}.{given[1]}", f"only one of {keys}", "both", "Remove one, or set it to null."
        if not given and pair[0][0] == "train":
            yield "train.steps", f"one of {keys}", "neither", "Give train.steps or train.epochs."


def _batch(config: RunConfig) -> Iterator[_Finding]:
    batch = config.batch
    if batch.size < batch.virtual_workers:
        yield (
            "batch.size",
            f"at least batch.virtual_workers = {batch.virtual_workers}, one sample a worker",
            str(batch.size),
            "Make the batch larger, or batch.virtual_workers smaller (which changes the bits of the result).",
        )


def _train(config: RunConfig) -> Iterator[_Finding]:
    train = config.train
    if train.steps is not None:
        yield from _warmup_fits(config, train.steps)
    if train.early_stopping is not None and train.eval_every is None:
        yield (
            "train.early_stopping",
            "train.eval_every beside it: it counts evaluations",
            "none",
            "Set train.eval_every to a number of steps or to epoch.",
        )


def _parallel(config: RunConfig) -> Iterator[_Finding]:
    if config.parallel.shard_optimizer:
        yield (
            "parallel.shard_optimizer",
            "false: sharding the optimizer's state is not available yet",
            "true",
            "Leave it out; every rank then holds the whole state.",
        )


def _logging(config: RunConfig) -> Iterator[_Finding]:
    if config.logging.tensorboard and find_spec("tensorboardX") is None:
        yield (
            "logging.tensorboard",
            "the package tensorboardX beside it",
            "none",
            "Install allgrad[tensorboard], or set it to false.",
        )


def _warmup(config: RunConfig, steps: int) -> int:
    schedule = config.optimizer.schedule
    warmup = schedule.warmup if schedule is not None else 0
    return warmup if isinstance(warmup, int) else round(warmup * steps)


def _warmup_fits(config: RunConfig, steps: int) -> Iterator[_Finding]:
    warmup = _warmup(config, steps)
    if warmup and warmup >= steps:
        yield (
            "optimizer.schedule.warmup",
            f"fewer steps than the whole run has ({steps})",
            str(warmup),
            "Shorten it, or give it as a fraction, for example 0.05.",
        )
