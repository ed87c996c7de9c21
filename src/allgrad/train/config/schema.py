"""The sections of a run's configuration: their keys, types, defaults and descriptions.

pydantic checks them strictly (a text is not a number) and accepts no other keys. What concerns two keys together is in
`validation.py`. The options of a model, data set, loss, optimizer, ... are declared where it is registered and joined to these
sections by `options.py`. The descriptions here appear in `docs/configuration.md` and in the JSON schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from allgrad.comm import STALL_SECONDS
from allgrad.train.config.registry import Location

__all__ = [
    "COMPONENT_LISTS",
    "EXCLUSIVE",
    "Component",
    "ModelSection",
    "OptimizerSection",
    "RunConfig",
    "ScheduleSection",
    "Section",
    "WarmModelSection",
]

Count = Annotated[int, Field(ge=1, lt=2**53)]
Fraction = Annotated[float, Field(gt=0, lt=1)]

EXCLUSIVE = (
    (("train", "steps"), ("train", "epochs")),
    (("checkpoint", "every"), ("checkpoint", "every_minutes")),
    (("optimizer", "clip_norm"), ("optimizer", "clip_value")),
)
"""Pairs of keys of which at most one may be given."""

COMPONENT_LISTS = (("train", "metrics"), ("train", "callbacks"), ("logging", "loggers"))
"""Keys that hold a list of components."""


class Section(BaseModel):
    """A mapping in the YAML file: strict types, finite numbers, no other keys, not changed once read."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


class Component(Section):
    """A section that names a registered component and holds its options."""

    name: str
    """The component's registered name."""

    def options(self) -> dict[str, Any]:
        """The component's own options: everything but the name and what all components of its kind share."""
        common = set(type(self)._common().model_fields)
        return {key: getattr(self, key) for key in type(self).model_fields if key not in common}

    def locations(self) -> list[str]:
        """The options that are paths."""
        fields = type(self).model_fields
        return [key for key in fields if any(isinstance(mark, Location) for mark in fields[key].metadata)]

    @classmethod
    def _common(cls) -> type[Component]:
        return Component


class ModelSection(Component):
    """The network."""

    from_except: tuple[str, ...] = ()
    """Parameters that start anew although `from` is given: patterns (`*`, `?`) of their names, such as `layers.4.*` for a new
    output layer."""

    @property
    def origin(self) -> str | None:
        """The directory of the run whose weights this one starts from: the key `from`."""
        found: str | None = getattr(self, "from", None)
        return found

    @classmethod
    def _common(cls) -> type[Component]:
        return WarmModelSection


# `from` is a reserved word, so a class cannot have it as a field in the usual way.
_FROM = Field(
    None,
    description="A run's directory whose weights this run starts from. The inputs are then prepared as in that run, and so "
    "are the targets unless `from_except` is given. null: random weights.",
)
WarmModelSection: type[ModelSection] = create_model(  # type: ignore[call-overload]
    "ModelSection", __base__=ModelSection, **{"from": (Annotated[str | None, Location()], _FROM)}
)


class ScheduleSection(Component):
    """How the learning rate changes during the run."""

    warmup: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = 0
    """How long the rate first rises from 0 to `lr`: a number of steps (an integer), or a fraction of the run (below 1)."""

    @classmethod
    def _common(cls) -> type[Component]:
        return ScheduleSection


class OptimizerSection(Component):
    """How the weights are updated."""

    lr: Annotated[float, Field(gt=0)]
    """Learning rate: the highest one, where there is a schedule."""
    schedule: ScheduleSection | None = None
    """How the learning rate changes during the run. null: it stays at `lr`."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the whole gradient; a longer gradient is scaled down to it. null: no limit."""
    clip_value: Annotated[float, Field(gt=0)] | None = None
    """Largest absolute value of an entry of the gradient; larger ones are cut. null: no limit."""
    ema: Fraction | None = None
    """Decay per step of an exponential moving average of the weights, which evaluations then use. null: no average."""
    no_decay: tuple[str, ...] = ("vectors",)
    """Parameters without weight decay: patterns (`*`, `?`) of their names. `vectors` means all with fewer than two axes."""

    @classmethod
    def _common(cls) -> type[Component]:
        return OptimizerSection

    def options(self) -> dict[str, Any]:
        return {"lr": self.lr, **super().options()}


def _single_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError("a name without slashes")
    return name


class RunSection(Section):
    """Where results are written."""

    dir: Annotated[str | None, Location(output=True)] = None
    """The run's directory, relative to the working directory. null: `runs/NAME-DATE-TIME`."""
    name: Annotated[str, AfterValidator(_single_name)] | None = None
    """The run's name, for its directory and its summary. null: the name of the configuration file."""


def default_virtual_workers(size: int) -> int:
    """The largest power of two, 8 at most, that leaves each virtual worker 4 samples of a batch or more.

    It depends on the batch alone, and not on the ranks or on timing, because it decides the bits of the result.

    >>> [default_virtual_workers(size) for size in (1, 8, 16, 31, 32, 1000)]
    [1, 2, 4, 4, 8, 8]
    """
    return next(workers for workers in (8, 4, 2, 1) if workers == 1 or 4 * workers <= size)


class BatchSection(Section):
    """How many samples a step uses, and how they are divided among virtual workers."""

    size: Annotated[int, Field(ge=1, le=2**31)]
    """Samples in a global batch, which all virtual workers of all ranks share."""
    virtual_workers: Annotated[
        int, Field(ge=1, le=65_536, default_factory=lambda given: default_virtual_workers(given.get("size", 1)))
    ]
    """Micro-batches that a global batch is cut into; a run has at most that many ranks. Changes the bits of the result. Default:
    the largest power of two, 8 at most, that leaves each of them 4 samples of the batch or more."""
    eval_size: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Samples in a batch of the evaluation. null: `batch.size`."""

    @property
    def virtual_workers_from(self) -> str:
        """Where `virtual_workers` comes from: the "configuration", or "batch.size" for its default."""
        return "configuration" if "virtual_workers" in self.model_fields_set else "batch.size"


class MonitorSection(Section):
    """The metric that decides which checkpoint is the best. It cannot be changed when a run is resumed."""

    metric: str = "loss"
    """Name of a metric that the evaluation reports."""
    mode: Literal["min", "max"] = "min"
    """Whether smaller (`min`) or larger (`max`) values are better."""


class EarlyStoppingSection(Section):
    """Ends the run when the monitored metric has stopped improving."""

    patience: Count
    """Evaluations without an improvement after which the run ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change of the metric that counts as an improvement, in the metric's unit."""


class TrainSection(Section):
    """How long to train, and what to watch. Exactly one of `steps` and `epochs` must be given."""

    steps: Count | None = None
    """Length of the run in optimizer steps."""
    epochs: Count | None = None
    """Length of the run in passes over the training data."""
    eval_every: Count | Literal["epoch"] | None = None
    """Steps between evaluations, or `epoch`. null: only one evaluation, at the end (where there always is one)."""
    log_every: Count = 10
    """Steps between entries of the log."""
    monitor: MonitorSection = MonitorSection()
    """The metric that decides which checkpoint is the best, and when early stopping ends the run."""
    early_stopping: EarlyStoppingSection | None = None
    """When to end the run before its planned length. null: never."""
    metrics: tuple[Component, ...] | None = None
    """What an evaluation reports besides the loss: a list of names, or of sections with a `name`. null: accuracy for classes
    and tokens, rmse and r2 for values, relative_l2 for points."""
    callbacks: tuple[Component, ...] = ()
    """Callbacks that plugins have registered: a list of names, or of sections with a `name`."""
    nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    """What happens when a loss or a gradient is NaN or infinite. `stop`: the run ends, with the weights of the step before.
    `skip`: the step changes nothing. `rollback`: the run returns to the newest checkpoint and continues with later batches."""


def _minutes(given: dict[str, Any]) -> float | None:
    return 10.0 if given.get("every") is None else None


class CheckpointSection(Section):
    """When the state of the run is saved. It is always saved at the end and when a signal stops the run."""

    every: Count | None = None
    """Steps between checkpoints. null: `every_minutes` decides. At most one of the two may be given."""
    every_minutes: Annotated[float, Field(gt=0, le=1e6)] | None = Field(default_factory=_minutes)
    """Minutes between checkpoints, by the clock of rank 0. Default: 10 where `every` is not given. null: none in between."""
    keep: Count = 3
    """How many of the newest checkpoints are kept. The best one by `train.monitor` is kept as well."""
    asynchronous: bool = True
    """Whether a thread writes the checkpoint while training goes on, which takes memory for a copy of the state."""


class ParallelSection(Section):
    """How the ranks work together."""

    reduction: Component = Field(default={"name": "exact"}, validate_default=True)
    """How gradients are summed, as a name or a section with a `name`. `exact` (the default): the same bits at any number of
    ranks; `mpi`: MPI's own all-reduce, in its library's order; the others send less (docs/slow_networks.md)."""
    shard: Literal["optimizer"] | None = None
    """`optimizer`: each rank (each node, with `memory: node`) keeps the optimizer's state of a part of the model and updates that
    part. Needs `reduction: exact`. null: each rank, or each node, has all of it. Changes no bit."""
    memory: Literal["auto", "node", "rank"] = "auto"
    """Where parameters and optimizer state are. `node`: once per node, in memory that its ranks share, and each rank updates its
    share. `rank`: once per rank. `auto`: `node` where it pays. Changes no bit."""
    bucket_mb: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Size of the buckets in which gradients are sent, in MiB. null: 1 between nodes, 25 inside one node."""
    blas_threads: Annotated[int, Field(ge=1, le=4096)] = 1
    """Threads of a matrix product. With the NumPy kernels it changes the bits of the result."""
    comm: Literal["auto", "thread", "polling"] = "auto"
    """What drives MPI: a `thread`, or the main thread between operations (`polling`). `auto`: what the MPI library allows."""
    startup_seconds: Annotated[float, Field(gt=0, le=1e6)] = STALL_SECONDS
    """Seconds that ranks wait for one that does not join the job, or does not finish reading data and building the model. Then
    the job ends, with a report of the ranks that are missing. Raise it where a slow file system delays some ranks."""
    stall_seconds: Annotated[float, Field(gt=0, le=1e6)] = STALL_SECONDS
    """Seconds without progress in a reduction, once the model is built. Then the job ends, with a report of the ranks that are
    missing."""
    verify_every: Count | None = None
    """Steps between comparisons of weights and optimizer state over the ranks, which find corrupted memory. If given, they are
    also compared before each checkpoint. null: never."""


class LoggingSection(Section):
    """What is shown and recorded besides `metrics.jsonl` and `summary.json`."""

    progress: Literal["auto", "plain", "none"] = "auto"
    """How progress is shown. `auto`: a live line on a terminal and plain lines elsewhere."""
    loggers: tuple[Component, ...] = Field(default=({"name": "jsonl"},), validate_default=True)
    """Who receives the reports besides the screen: a list of names, or of sections with a `name`."""
    trace: bool | Annotated[int, Field(ge=1, le=1000)] = False
    """How many of the first steps are recorded in `trace.json`, for ui.perfetto.dev and `allgrad report`. true: 20; false: none.
    `allgrad trace RUN` records steps of a job that is running."""
    sample: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Tokens of text to generate at the end of a run on text. 0: none."""


class RunConfig(Section):
    """One run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the order of the data, dropout and augmentation."""
    run: RunSection = RunSection()
    """Where results are written."""
    model: ModelSection
    """The network."""
    data: Component
    """What it is trained and evaluated on."""
    loss: Component
    """What training minimises."""
    batch: BatchSection
    """How many samples a step uses, and how they are divided among virtual workers."""
    optimizer: OptimizerSection
    """How the weights are updated."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of matrix products. `bf16`: their operands are rounded to bfloat16 and their sums are float32, as everything else is;
    emulated, so it is slower. For experiments with less precision."""
    float32_layers: tuple[str, ...] = ()
    """With `bf16`, layers whose products stay in float32: patterns (`*`, `?`) of their paths, for example `head`."""
    train: TrainSection
    """How long to train, and what to watch."""
    checkpoint: CheckpointSection = CheckpointSection()
    """When the state of the run is saved."""
    parallel: ParallelSection = ParallelSection()
    """How the ranks work together."""
    logging: LoggingSection = LoggingSection()
    """What is shown and recorded."""
