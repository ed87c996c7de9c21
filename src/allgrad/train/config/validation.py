"""What two keys of a configuration must be to each other and to the data, and how long the described run is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from allgrad.train.config import registry
from allgrad.train.config.errors import ConfigError, Mistake
from allgrad.train.config.schema import EXCLUSIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allgrad.data import DataInfo
    from allgrad.train.config.schema import RunConfig

__all__ = ["RunPlan", "check_keys", "check_kinds", "check_monitor", "plan_run"]


@dataclass(frozen=True)
class RunPlan:
    """The length of a run.

    Attributes:
        steps: optimizer steps in the whole run.
        steps_per_epoch: global batches in one pass over the training data.
        warmup: steps over which the learning rate rises.
        eval_every: steps between evaluations; 0: only at the end.
    """

    steps: int
    steps_per_epoch: int
    warmup: int
    eval_every: int


def check_keys(config: RunConfig, locate: Callable[[tuple[str | int, ...]], str]) -> list[Mistake]:
    """Everything that is wrong between keys and that does not need the data to be seen."""
    found = [*_exactly_one(config), *_model(config), *_batch(config), *_train(config), *_logging(config)]
    found += _parallel(config)
    return [Mistake(each.key, each.text, locate(tuple(each.key.split(".")))) for each in found]


def plan_run(config: RunConfig, samples: int) -> tuple[RunPlan, list[Mistake]]:
    """The length of the run on a training set of `samples`, and what is wrong with it."""
    per_epoch = -(-samples // config.batch.size)
    steps = config.train.steps or (config.train.epochs or 0) * per_epoch
    wanted = config.train.eval_every
    every = per_epoch if wanted == "epoch" else (wanted or 0)
    return RunPlan(steps, per_epoch, _warmup(config, steps), every), [
        *_warmup_fits(config, steps),
        *_rounds_fit(config, steps),
    ]


def check_kinds(config: RunConfig, info: DataInfo) -> None:
    """Refuse a model, a loss or a setting that is for another kind of data.

    Raises:
        ConfigError: names those that fit.
    """
    found = []
    named = [("model", registry.models, config.model), ("loss", registry.losses, config.loss)]
    named += [("train.metrics", registry.metrics, section) for section in config.train.metrics or ()]
    for key, kind, section in named:
        fitting = kind.names(info.kind)
        if section.name not in fitting:
            text = f"{section.name} does not work on this data ({info.kind}). These do: {', '.join(fitting)}."
            found.append(Mistake(f"{key}.name", text))
    if config.logging.sample and not (info.kind == "tokens" and info.extra.get("unit") in ("characters", "bytes")):
        text = f"must be 0, not {config.logging.sample}: only a run on text can generate some at its end."
        found.append(Mistake("logging.sample", text))
    if found:
        raise ConfigError(found)


def check_monitor(metric: str, reported: Sequence[str]) -> None:
    """Refuse a monitored metric that evaluations do not report.

    Raises:
        ConfigError: names those that they do.
    """
    if metric not in reported:
        text = f"{metric} is not reported. Evaluations report {', '.join(reported)}; train.metrics adds to them."
        raise ConfigError([Mistake("train.monitor.metric", text)])


def _exactly_one(config: RunConfig) -> Iterator[Mistake]:
    for pair in EXCLUSIVE:
        section = getattr(config, pair[0][0])
        given = [path[1] for path in pair if getattr(section, path[1]) is not None]
        keys = " and ".join(".".join(path) for path in pair)
        if len(given) == 2:
            yield Mistake(f"{pair[0][0]}.{given[1]}", f"{keys} exclude each other; remove one.")
        if not given and pair[0][0] == "train":
            yield Mistake("train.steps", "train.steps or train.epochs must be given.")


def _model(config: RunConfig) -> Iterator[Mistake]:
    if config.model.from_except and config.model.origin is None:
        yield Mistake("model.from_except", "needs model.from, the run whose weights it makes exceptions from.")


def _batch(config: RunConfig) -> Iterator[Mistake]:
    batch = config.batch
    if batch.size < batch.virtual_workers:
        yield Mistake(
            "batch.size",
            f"must be at least batch.virtual_workers ({batch.virtual_workers}), so that each worker has a sample, not "
            f"{batch.size}. Make the batch larger, or batch.virtual_workers smaller (which changes the bits of the result).",
        )


def _train(config: RunConfig) -> Iterator[Mistake]:
    train = config.train
    if train.steps is not None:
        yield from _warmup_fits(config, train.steps)
        yield from _rounds_fit(config, train.steps)
    if train.early_stopping is not None and train.eval_every is None:
        yield Mistake(
            "train.early_stopping",
            "needs train.eval_every, because it counts evaluations. Set that to a number of steps or to epoch.",
        )


def _logging(config: RunConfig) -> Iterator[Mistake]:
    wanted = any(section.name == "tensorboard" for section in config.logging.loggers)
    if wanted and find_spec("tensorboardX") is None:
        yield Mistake(
            "logging.loggers",
            "tensorboard needs the package tensorboardX, which is not installed. Install allgrad[tensorboard], or leave it out.",
        )


def _parallel(config: RunConfig) -> Iterator[Mistake]:
    parallel = config.parallel
    name = parallel.reduction.name
    if parallel.shard is not None and name != "exact":
        yield Mistake(
            "parallel.shard",
            f"optimizer works with parallel.reduction: exact only, not with {name}. Choose one of the two.",
        )
    if parallel.memory == "node" and name != "exact":
        yield Mistake(
            "parallel.memory",
            f"node works with parallel.reduction: exact only, not with {name}. Use rank, or leave it out.",
        )
    if name == "local" and config.optimizer.ema is not None:
        yield Mistake(
            "optimizer.ema",
            "cannot be combined with parallel.reduction: local, whose replicas have weights of their own. Remove it: the average "
            "over the replicas takes its place.",
        )


def _rounds_fit(config: RunConfig, steps: int) -> Iterator[Mistake]:
    reduction = config.parallel.reduction
    if reduction.name != "local":
        return
    inner, warmup = (reduction.options()[key] for key in ("inner_steps", "warmup_steps"))
    if warmup >= steps:
        yield Mistake(
            "parallel.reduction.warmup_steps",
            f"must be shorter than the whole run ({steps} steps), not {warmup}. Shorten it, or use reduction: exact.",
        )
    elif (steps - warmup) % inner:
        apart, plus = (f", {warmup} of them warm-up,", "warmup_steps plus ") if warmup else ("", "")
        yield Mistake(
            "parallel.reduction.inner_steps",
            f"a run of {steps} steps{apart} is not a whole number of rounds of {inner}: what its last {(steps - warmup) % inner} "
            f"steps learn would be lost. Set train.steps to {plus}a multiple of inner_steps.",
        )


def _warmup(config: RunConfig, steps: int) -> int:
    schedule = config.optimizer.schedule
    warmup = schedule.warmup if schedule is not None else 0
    return warmup if isinstance(warmup, int) else round(warmup * steps)


def _warmup_fits(config: RunConfig, steps: int) -> Iterator[Mistake]:
    warmup = _warmup(config, steps)
    if warmup and warmup >= steps:
        yield Mistake(
            "optimizer.schedule.warmup",
            f"must be shorter than the whole run ({steps} steps), not {warmup}. Shorten it, or give a fraction such as 0.05.",
        )
