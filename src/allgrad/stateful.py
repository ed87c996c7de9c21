"""The protocol of everything that a checkpoint stores: models, optimizers, loaders, gradient exchanges, callbacks."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from allgrad.errors import AllgradError

__all__ = ["StateError", "Stateful"]


class StateError(AllgradError, ValueError):
    """A saved state does not fit the object that should continue from it."""


@runtime_checkable
class Stateful(Protocol):
    """An object whose state can be saved and restored.

    `state_dict` returns a dict with string keys. Its values are NumPy arrays, or JSON values (None, bool, int, float, str,
    and lists and dicts of them). It shares no memory with the object, so later changes of the object do not show in it.

    Example:
        >>> class Counter:
        ...     steps = 0
        ...
        ...     def state_dict(self):
        ...         return {"steps": self.steps}
        ...
        ...     def load_state_dict(self, state):
        ...         self.steps = state["steps"]
        >>> isinstance(Counter(), Stateful)
        True
    """

    def state_dict(self) -> dict[str, Any]:
        """The state to save."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Restore what `state_dict` returned."""
        ...
