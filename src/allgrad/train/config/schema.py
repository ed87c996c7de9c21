"""The sections of a run's configuration, their keys, types and defaults.

This file is the reference of what can be written in YAML. pydantic checks it: strictly (a text is no number), with no
other keys allowed. What concerns two keys together is in checks.py; what a model, data set, loss, optimizer or schedule
can be told beside its `name` is declared where it is registered (registry.py), and joined to the sections here by
`run_config_type`.
"""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, Any, Literal, Union, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from allgrad.train.config import registry

__all__ = ["Component", "OptimizerSection", "RunConfig", "ScheduleSection", "Section", "run_config_type"]

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


_NO_SEARCH = {"use_attribute_docstrings": False}
"""For types made at run time: pydantic would search source files for descriptions that cannot be there (half a second)."""


class Section(BaseModel):
    """A mapping in the YAML file: strict types, no other keys, not changed once read."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )


class Component(Section):
    """A section that names a registered component and holds its options beside the name."""

    name: str

    def options(self) -> dict[str, Any]:
        """The component's own options: what is neither the name nor common to the section."""
        common = set(type(self)._common().model_fields)
        return {key: getattr(self, key) for key in type(self).model_fields if key not in common}

    def locations(self) -> list[str]:
        """The options that say where data lie."""
        fields = type(self).model_fields
        return [key for key in fields if any(isinstance(mark, registry.Location) for mark in fields[key].metadata)]

    @classmethod
    def _common(cls) -> type[Component]:
        return Component


class ScheduleSection(Component):
    """How the learning rate changes; `name` is a registered schedule, for example constant or cosine."""

    warmup: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = 0
    """Steps (an integer) or the part of the run (a fraction) over which the rate first rises from 0 to its peak."""

    @classmethod
    def _common(cls) -> type[Component]:
        return ScheduleSection


class OptimizerSection(Component):
    """How weights are changed; `name` is a registered optimizer, for example adamw or sgd."""

    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """The learning rate at its peak."""
    schedule: ScheduleSection | None = None
    """None: the rate stays as it is."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Scale all gradients down together where their norm is larger."""
    clip_value: Annotated[float, Field(gt=0)] | None = None
    """Cut every entry of the gradient at this size."""
    ema: Fraction | None = None
    """Decay of an exponential moving average of the weights, which then is what is evaluated."""
    no_decay: tuple[str, ...] = ("vectors",)
    """Parameters without weight decay: patterns (`*`, `?`) of their names; `vectors`: all with fewer than two axes."""

    @classmethod
    def _common(cls) -> type[Component]:
        return OptimizerSection

    def options(self) -> dict[str, Any]:
        return {"lr": self.lr, **super().options()}


class RunSection(Section):
    """Where results go."""

    dir: str | None = None
    """The run's folder. None: `runs/NAME-DATE-TIME`."""
    name: str | None = None
    """A name for folder and summary. None: the configuration file's."""


class BatchSection(Section):
    """How many samples a step sees, and how they are divided."""

    size: Count
    """Samples in a global batch, over all workers of all ranks."""
    virtual_workers: Count = 8
    """Into how many micro-batches a batch is cut; at most that many ranks. It changes the bits of the result."""
    eval_size: Count | None = None
    """Samples in a batch of the evaluation. None: `size`."""


class MonitorSection(Section):
    """Which of the evaluation's metrics says that one checkpoint is better than another."""

    metric: str = "loss"
    mode: Literal["min", "max"] = "min"


class EarlyStoppingSection(Section):
    """End the run when the monitored metric has stopped improving."""

    patience: Count
    """Evaluations without an improvement after which the run ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """What is less than this counts as none."""


class TrainSection(Section):
    """How long, and what is looked at on the way. Exactly one of `steps` and `epochs` is given."""

    steps: Count | None = None
    epochs: Count | None = None
    eval_every: Count | Literal["epoch"] | None = None
    """Steps between evaluations, or `epoch`. None: at the end only, where one always takes place."""
    log_every: Count = 10
    """Steps between lines in metrics.jsonl and on the screen."""
    monitor: MonitorSection = MonitorSection()
    """What the best checkpoint and early stopping go by."""
    early_stopping: EarlyStoppingSection | None = None
    """None: the run goes on to its end."""


class CheckpointSection(Section):
    """When the run's state is written; at the end and on SIGTERM it always is."""

    every: Count | None = None
    """Steps between checkpoints."""
    every_minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes between checkpoints, by rank 0's clock. At most one of the two is given."""
    keep: Count = 3
    """How many of the newest are kept; the best one by `train.monitor` is kept beside them."""
    asynchronous: bool = True
    """Write in a thread beside the training, at the cost of one copy of the state in memory."""


class ParallelSection(Section):
    """How ranks work together."""

    reduction: Literal["exact", "mpi"] = "exact"
    """exact: the same bits at any number of ranks. mpi: MPI's own all-reduce, whose order its library chooses."""
    bucket_mb: Annotated[float, Field(gt=0)] | None = None
    """Size of the pieces in which gradients travel, in MiB; null: 1 between nodes, 25 inside one."""
    blas_threads: Count = 1
    """Threads of a matrix product. It changes the bits of the result."""
    comm: Literal["auto", "thread", "polling"] = "auto"
    """Who drives MPI: a thread, or the main thread between operations. auto: what the MPI library allows."""
    stall_seconds: Annotated[float, Field(gt=0)] = 300.0
    """A reduction in which nothing moves for so long ends the job, with a report of the ranks that are missing."""
    shard_optimizer: bool = False
    """Split the optimizer's state over the ranks: not available yet, so that only false is accepted."""


class LoggingSection(Section):
    """What is shown and recorded beside metrics.jsonl and summary.json."""

    progress: Literal["auto", "plain", "none"] = "auto"
    """auto: a live line on a terminal, plain lines elsewhere."""
    tensorboard: bool = False
    """Write TensorBoard events into the run's folder; needs `allgrad[tensorboard]`."""
    sample: Annotated[int, Field(ge=0)] = 0
    """Tokens of text to generate at the end of a run on tokens."""


class RunConfig(Section):
    """One run."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the initial weights, the order of the data, dropout and augmentation."""
    run: RunSection = RunSection()
    model: Component
    data: Component
    loss: Component
    batch: BatchSection
    optimizer: OptimizerSection
    train: TrainSection
    checkpoint: CheckpointSection = CheckpointSection()
    parallel: ParallelSection = ParallelSection()
    logging: LoggingSection = LoggingSection()


def run_config_type() -> type[RunConfig]:
    """`RunConfig` with the options of every registered component: model, data, loss, optimizer and its schedule."""
    schedule = _choice(registry.schedules, ScheduleSection)
    optimizer = _choice(registry.optimizers, OptimizerSection, schedule=(schedule | None, None))
    chosen: dict[str, Any] = {
        "model": (_choice(registry.models, Component), ...),
        "data": (_choice(registry.datasets, Component), ...),
        "loss": (_choice(registry.losses, Component), ...),
        "optimizer": (optimizer, ...),
    }
    return create_model("RunConfig", __base__=RunConfig, __cls_kwargs__=_NO_SEARCH, **chosen)


def _choice(kind: registry.Registry, base: type[Component], **fields: Any) -> Any:
    """The union of the registered components' sections, told apart by `name`."""
    types = [_component_type(kind, name, base, fields) for name in kind.names()]
    if len(types) < 2:  # pydantic has no discriminated union of one
        return types[0] if types else base
    return Annotated[Union[tuple(types)], Field(discriminator="name")]  # noqa: UP007 (a union made at run time)


def _component_type(
    kind: registry.Registry, name: str, base: type[Component], fields: dict[str, Any]
) -> type[Component]:
    factory = kind[name].factory
    fields = {"name": (Literal[name], ...), **fields}
    for option, (annotation, default) in _options(kind, name).items():
        if option not in base.model_fields:
            fields[option] = (annotation, default)
    title = "".join(part.capitalize() for part in [*name.split("_"), kind.kind])
    return create_model(
        title, __base__=base, __cls_kwargs__=_NO_SEARCH, __doc__=inspect.getdoc(factory) or "", **fields
    )


def _options(kind: registry.Registry, name: str) -> dict[str, tuple[Any, Any]]:
    """The keyword-only parameters of a component: name to (type, default)."""
    entry = kind[name]
    parameters = inspect.signature(entry.factory).parameters.values()
    keywords = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
    for option, parameter in keywords.items():
        if parameter.annotation is parameter.empty:
            what = f"{kind.kind} {name!r} ({entry.where})"
            raise registry.PluginError(f"{what}: option {option!r} needs a type annotation.")
    # Only these annotations are evaluated: those of the arguments may be names for the type checker alone.
    holder = type(name, (), {"__annotations__": {option: each.annotation for option, each in keywords.items()}})
    try:
        hints = get_type_hints(holder, vars(sys.modules[entry.factory.__module__]), include_extras=True)
    except NameError as error:
        raise registry.PluginError(
            f"{kind.kind} {name!r} ({entry.where}): the type of an option cannot be evaluated ({error}). "
            "Import it at run time, not under TYPE_CHECKING."
        ) from error
    return {
        option: (hints[option], ... if each.default is each.empty else each.default)
        for option, each in keywords.items()
    }
