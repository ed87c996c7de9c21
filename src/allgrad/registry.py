"""A registry: named factories of one kind, to which a plugin can add its own.

The registries of a configuration are in `train/config/registry.py`, that of gradient exchanges in `parallel/exchanges/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from allgrad.errors import AllgradError, OptionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ComponentError", "Entry", "Registry"]

F = TypeVar("F", bound="Callable[..., Any]")


class ComponentError(UsageError, RuntimeError):
    """A component cannot be built from its options, or its factory returned the wrong thing."""


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
        except OptionError as error:
            raise ComponentError(f"{self.kind} {entry.name!r}: {error}") from error
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
