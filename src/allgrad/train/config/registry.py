"""The registries: which models, data sets, losses, loggers, ... a configuration can name, and how to add one.

A name in YAML is looked up here and only here. It is never an import path, so a configuration file cannot run code. The
modules in `BUILTIN` register allgrad's own components; a user's plugin (`--plugin my_module.py`) registers more with the same
decorators.

A component is a function or a class. Its positional parameters are what the trainer passes in. Its keyword-only parameters are
its options: their names, annotations and defaults become the schema that the configuration is checked against.
`Annotated[float, pydantic.Field(ge=0, lt=1)]` and `Literal["relu", "tanh"]` narrow the values that are accepted, and the section
`Args:` of the docstring describes them in `docs/configuration.md` and in the JSON schema.

| kind      | in YAML                | the factory is called as                                                             |
|-----------|------------------------|--------------------------------------------------------------------------------------|
| model     | `model`                | `factory(info, rng, **options)`: the data's `DataInfo`, a Generator; returns a module |
| data      | `data`                 | `factory(seed, **options)`: the run's seed; returns a `DataSource`                    |
| loss      | `loss`                 | `factory(info, **options)`: returns a `TrainLoss`                                     |
| optimizer | `optimizer`            | `factory(groups, **options)`: parameter groups; the options include `lr`              |
| schedule  | `optimizer.schedule`   | `factory(steps, **options)`: length of the run; returns step -> factor on `lr`        |
| metric    | `train.metrics` (list) | `factory(info, **options)`: returns a metric (`components/metrics.py`)                |
| callback  | `train.callbacks`      | `factory(**options)`: returns a `Callback`                                            |
| logger    | `logging.loggers`      | `factory(run, **options)`: a `RunContext`; returns a `Logger`; called on rank 0 only  |
| exchange  | `parallel.reduction`   | `factory(**options)`: returns an `allgrad.parallel.Exchange`                          |

Example:
    >>> from allgrad.train import register_schedule
    >>> @register_schedule("halving")
    ... def halving(steps, *, every: int = 100):
    ...     '''Halve the rate at regular intervals.
    ...
    ...     Args:
    ...         every: steps between two halvings.
    ...     '''
    ...     return lambda step: 0.5 ** (step // every)
    >>> schedules["halving"].factory(1000, every=10)(25)
    0.25
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from allgrad.parallel.exchanges import exchanges, register_exchange
from allgrad.registry import ComponentError, Entry, Registry

__all__ = [
    "BUILTIN",
    "ComponentError",
    "Entry",
    "Location",
    "Registry",
    "callbacks",
    "datasets",
    "exchanges",
    "load_builtin",
    "loggers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "register_callback",
    "register_dataset",
    "register_exchange",
    "register_logger",
    "register_loss",
    "register_metric",
    "register_model",
    "register_optimizer",
    "register_schedule",
    "registered",
    "schedules",
]

BUILTIN: tuple[str, ...] = (
    "allgrad.train.components.datasets",
    "allgrad.train.components.losses",
    "allgrad.train.components.metrics",
    "allgrad.train.components.models",
    "allgrad.train.components.optimizers",
    "allgrad.train.loggers.jsonl",
    "allgrad.train.loggers.tensorboard",
)
"""Modules that register allgrad's own components when they are imported."""


@dataclass(frozen=True)
class Location:
    """Marks an option as a path, or a list of them: `path: Annotated[str, Location()]`.

    A relative path is relative to the file that says it (with `output`, to the working directory), `~` is the home directory,
    a run stores the absolute path, and a resumed run may be given another one.
    """

    output: bool = False


models = Registry("model", "an allgrad.nn.Module", ("named_parameters", "state_dict"))
datasets = Registry("data", "an allgrad.data.DataSource", ("train", "valid", "info"))
losses = Registry("loss", "a TrainLoss (allgrad.train.components.losses)", ("counts", "sums", "evaluate"))
optimizers = Registry("optimizer")
schedules = Registry("schedule")
metrics = Registry("metric", "a metric (allgrad.train.components.metrics)", ("names", "sums", "results"))
callbacks = Registry("callback", "an allgrad.train.Callback", ("on_start", "on_step", "on_end", "state_dict"))
loggers = Registry("logger", "an allgrad.train.loggers.base.Logger", ("log", "message", "rewind", "close"))

register_model = models.register
register_dataset = datasets.register
register_loss = losses.register
register_optimizer = optimizers.register
register_schedule = schedules.register
register_metric = metrics.register
register_callback = callbacks.register
register_logger = loggers.register


def registered() -> tuple[Entry, ...]:
    """Every registered component of every kind."""
    kinds = (models, datasets, losses, optimizers, schedules, metrics, callbacks, loggers, exchanges)
    return tuple(kind[name] for kind in kinds for name in kind.names())


def load_builtin() -> None:
    """Register allgrad's own components; calling it again does nothing."""
    for module in BUILTIN:
        importlib.import_module(module)
