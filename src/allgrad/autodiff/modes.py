"""The modes of the tape: is it recording, is it looking for anomalies, which forward levels are open.

One immutable record in one context variable. A thread, or an asyncio task, has its own; a mode is entered
with `with` and left whatever happens inside.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Modes(NamedTuple):
    recording: bool = True
    anomaly: bool = False
    forward: int = 0
    """How many forward-mode levels are open around this call."""
    reverse: int = 0
    """How many reverse-mode transforms (grad, vjp) are running the function that makes this call."""


CURRENT: ContextVar[Modes] = ContextVar("allgrad_modes", default=Modes())  # noqa: B039 - a NamedTuple is immutable


class switched:  # noqa: N801 - used like a function; a generator's context costs twice as much, and every backward enters one
    """A context in which some of the modes are others."""

    __slots__ = ("changes", "token")

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def __enter__(self) -> None:
        self.token = CURRENT.set(CURRENT.get()._replace(**self.changes))

    def __exit__(self, *_: object) -> None:
        CURRENT.reset(self.token)


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, nothing is recorded: results are Tensors without a history.

    >>> import numpy as np, allgrad as ag
    >>> w = ag.tensor([1.0, 2.0], requires_grad=True)
    >>> with ag.no_grad():
    ...     y = np.sum(w * 2)
    >>> y.requires_grad
    False
    """
    with switched(recording=False):
        yield


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Inside, the first operation whose value or gradient holds a NaN or an infinity raises `AnomalyError`.

    The message names the operation and the line of code that called it. It costs a scan of every result.

    >>> import numpy as np, allgrad as ag
    >>> x = ag.tensor([0.0, 1.0], requires_grad=True)
    >>> with ag.detect_anomaly(), np.errstate(divide="ignore"):
    ...     np.log(x)                                     # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    allgrad.autodiff.errors.AnomalyError: log gave -inf ...
    """
    with switched(anomaly=True):
        yield
