"""What a configuration can name: models, data sets, losses, metrics, optimizers, schedules, loggers, callbacks.

Contract.

- A name in YAML is looked up here, and here only; it is never an import path, so that a configuration cannot run code
  that nobody asked for. allgrad's own components are registered by the modules in `BUILTIN`, imported when a
  configuration is read; a user's by the decorators in a file that `--plugin my_module.py` names.
- A component is a function (or class). Its positional parameters are what the trainer hands in, its keyword-only
  parameters are its options: their names, type annotations and defaults are the schema that the configuration is
  checked against, strictly. `Annotated[float, pydantic.Field(ge=0, lt=1)]` and `Literal["relu", "tanh"]` narrow them.
- What the trainer hands in, for each kind:

  | kind      | called as                                                                          |
  |-----------|------------------------------------------------------------------------------------|
  | model     | `factory(info, rng, **options)`: the data's `DataInfo`, a Generator; a module      |
  | data      | `factory(seed, **options)`: the run's seed; returns a `DataSource`                 |
  | loss      | `factory(info, **options)`: returns the loss function                              |
  | optimizer | `factory(groups, **options)`: parameter groups; `lr` among the options             |
  | schedule  | `factory(steps, **options)`: total steps; returns step -> factor on the peak rate  |
  | metric    | `factory(info, **options)`: returns a metric (components/metrics.py)               |
  | logger    | `factory(run, **options)`: a `RunContext`; returns a `Logger`; on rank 0 only      |
  | callback  | `factory(**options)`: returns a `Callback`                                         |
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from allgrad.train.config.schema import Component

__all__ = [
    "BUILTIN",
    "ComponentError",
    "Location",
    "PluginError",
    "Registry",
    "callbacks",
    "datasets",
    "load_builtin",
    "load_plugins",
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
    "schedules",
]

F = TypeVar("F", bound="Callable[..., Any]")

BUILTIN: tuple[str, ...] = (
    "allgrad.train.components.datasets",
    "allgrad.train.components.losses",
    "allgrad.train.components.models",
    "allgrad.train.components.optimizers",
)
"""Modules whose import registers allgrad's own components."""


class PluginError(RuntimeError):
    """A plugin file that is missing or fails when it is run, or declares what cannot be used."""

    exit_code = 2  # what the command line ends with


class ComponentError(RuntimeError):
    """A component that cannot be made of its options, or is not what it should be."""

    exit_code = 2  # what the command line ends with


@dataclass(frozen=True)
class Location:
    """Marks an option that says where data lie, `path: Annotated[str, Location()]`: a run that goes on may be told anew."""


@dataclass(frozen=True)
class Entry:
    """One component: what it is called, what makes it, where that was defined, and for which kinds of data (none: for all)."""

    name: str
    factory: Callable[..., Any]
    where: str
    kinds: tuple[str, ...]


class Registry:
    """The components of one kind.

    Args:
        kind: what it is called in messages.
        returns: what a component's factory must return, in words.
        having: attributes by which that is known.

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
        """A decorator that makes its function known under `name`.

        Args:
            kinds: of data (`DataInfo.kind`) that it is for; a run on others is refused. None: all.

        Raises:
            ValueError: when another component of this kind has that name.
        """

        def add(factory: F) -> F:
            where = f"{factory.__module__}.{factory.__qualname__}"
            taken = self._entries.get(name)
            if taken is not None and taken.where != where:
                raise ValueError(
                    f"{self.kind} {name!r} is registered by {taken.where} already. {where} needs another name."
                )
            self._entries[name] = Entry(name, factory, where, kinds)
            return factory

        return add

    def names(self, kind: str | None = None) -> list[str]:
        """Of all components, or of those for one kind of data."""
        return sorted(
            name for name, entry in self._entries.items() if kind is None or not entry.kinds or kind in entry.kinds
        )

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def build(self, component: Component, *arguments: Any) -> Any:
        """Make what a section of the configuration describes; see the table on top for `arguments`.

        Raises:
            ComponentError: when an option of one of allgrad's own is wrong, or something else came of one.
        """
        entry = self._entries[component.name]
        try:
            made = entry.factory(*arguments, **component.options())
        except (ValueError, TypeError) as error:
            if hasattr(error, "exit_code") or not entry.where.startswith("allgrad."):
                raise  # a message already, or the user's code, whose traceback he needs
            raise ComponentError(f"{self.kind} {entry.name!r}: {error}") from error
        if missing := [name for name in self.having if not hasattr(made, name)]:
            raise ComponentError(
                f"{self.kind} {entry.name!r} ({entry.where}) must return {self.returns}. "
                f"Got {type(made).__name__} instead, without {', '.join(missing)}."
            )
        return made


models = Registry("model", "an allgrad.nn.Module", ("named_parameters", "state_dict"))
datasets = Registry("data", "an allgrad.data.DataSource", ("train", "valid", "info"))
losses = Registry(
    "loss", "a loss as train/losses.py describes it", ("reports", "counts", "sums", "evaluate", "metrics")
)
optimizers = Registry("optimizer")
schedules = Registry("schedule")
metrics = Registry("metric", "a metric as components/metrics.py describes it", ("names", "sums", "results"))
loggers = Registry("logger", "an allgrad.train.loggers.base.Logger", ("log", "message", "rewind", "close"))
callbacks = Registry("callback", "an allgrad.train.Callback", ("on_start", "on_step", "on_end", "state_dict"))

register_model = models.register
register_dataset = datasets.register
register_loss = losses.register
register_optimizer = optimizers.register
register_schedule = schedules.register
register_metric = metrics.register
register_logger = loggers.register
register_callback = callbacks.register


def load_builtin() -> None:
    """Register allgrad's own components; a second call does nothing."""
    for module in BUILTIN:
        importlib.import_module(module)


def load_plugins(paths: Iterable[str | Path]) -> None:
    """Run the user's plugin files, so that their decorators register what is in them.

    Raises:
        PluginError: when a file is missing, or raises when it is run: with the file's line, and the cause attached.
    """
    for given in paths:
        path = Path(given).expanduser().resolve()
        if path.suffix != ".py" or not path.is_file():
            raise PluginError(f"--plugin {given}: expected a Python file (.py). Looked for {path}.")
        name = f"allgrad_plugin_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise PluginError(f"--plugin {given}{_line(error, path)}: {type(error).__name__}: {error}") from error


def _line(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    numbers = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            numbers.append(trace.tb_lineno)
        trace = trace.tb_next
    return f":{numbers[-1]}" if numbers else ""
