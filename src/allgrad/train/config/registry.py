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
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from allgrad.errors import AllgradError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BUILTIN",
    "ComponentError",
    "Entry",
    "Location",
    "Registry",
    "callbacks",
    "datasets",
    "load_builtin",
    "loggers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "register_callback",
    "register_dataset",
    "register_logger",
    "register_loss",
    "register_metric",
    "register_model",
    "register_optimizer",
    "register_schedule",
    "registered",
    "schedules",
]

F = TypeVar("F", bound="Callable[..., Any]")

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


class ComponentError(UsageError, RuntimeError):
    """A component cannot be built from its options, or its factory returned the wrong thing."""


@dataclass(frozen=True)
class Location:
    """Marks an option as a path, or a list of them: `path: Annotated[str, Location()]`.

    A relative path is relative to the file that says it, `~` is the home directory, a run stores the absolute path, and a
    resumed run may be given another one.
    """


class Named(Protocol):
    """What `Registry.build` needs to know about a section of the configuration."""

    @property
    def name(self) -> str: ...

    def options(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Entry:
    """One registered component.

    Attributes:
        where: the factory's module and name.
        kinds: the kinds of data (`DataInfo.kind`) that it works on; empty: all.
    """

    name: str
    factory: Callable[..., Any]
    where: str
    kinds: tuple[str, ...]


class Registry:
    """The components of one kind.

    Args:
        kind: the kind's name in messages.
        returns: what a factory must return, in words.
        having: the attributes that such an object has.

    Example:
        >>> shapes = Registry("shape")
        >>> @shapes.register("square")
        ... def square(info, *, side: float = 1.0):
        ...     return side * side
        >>> shapes.names(), shapes["square"].factory(None, side=2.0)
        (['square'], 4.0)
    """

    def __init__(self, kind: str, returns: str = "an object", having: tuple[str, ...] = ()) -> None:
        self.kind, self.returns, self.having = kind, returns, having
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, *, kinds: tuple[str, ...] = ()) -> Callable[[F], F]:
        """A decorator that registers a factory under `name`.

        Args:
            kinds: the kinds of data (`DataInfo.kind`) that the component works on; a run on other data is refused.
                Empty: all kinds.

        Raises:
            ValueError: another component of this kind has that name.
        """

        def add(factory: F) -> F:
            where = f"{factory.__module__}.{factory.__qualname__}"
            taken = self._entries.get(name)
            if taken is not None and taken.where != where:
                raise ValueError(f"{self.kind} {name!r} is already registered by {taken.where}; rename {where}.")
            self._entries[name] = Entry(name, factory, where, kinds)
            return factory

        return add

    def names(self, kind: str | None = None) -> list[str]:
        """The names of all components, or of those that work on one kind of data."""
        return sorted(
            name for name, entry in self._entries.items() if kind is None or not entry.kinds or kind in entry.kinds
        )

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def build(self, section: Named, *arguments: Any) -> Any:
        """The component that a section of the configuration describes.

        Args:
            section: has the component's name and options.
            arguments: what the factory is called with before the options; see the table above.

        Raises:
            ComponentError: the factory rejects its options, needs more memory than there is, or returns the wrong thing.
        """
        entry = self._entries[section.name]
        try:
            made = entry.factory(*arguments, **section.options())
        except AllgradError:
            raise
        except MemoryError as error:
            raise ComponentError(f"{self.kind} {entry.name!r} does not fit into memory: {error}") from error
        except (ValueError, TypeError) as error:
            if not entry.where.startswith("allgrad."):
                raise  # a bug in the user's own code: the traceback shows where
            raise ComponentError(f"{self.kind} {entry.name!r}: {error}") from error
        if missing := [name for name in self.having if not hasattr(made, name)]:
            raise ComponentError(
                f"{self.kind} {entry.name!r} ({entry.where}) must return {self.returns}, but returned "
                f"{type(made).__name__}, which has no {', '.join(missing)}."
            )
        return made


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
    kinds = (models, datasets, losses, optimizers, schedules, metrics, callbacks, loggers)
    return tuple(kind[name] for kind in kinds for name in kind.names())


def load_builtin() -> None:
    """Register allgrad's own components; calling it again does nothing."""
    for module in BUILTIN:
        importlib.import_module(module)
