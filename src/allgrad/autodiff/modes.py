"""The modes of the tape: whether it records, whether it looks for anomalies, and which transforms are open.

They are one immutable record in one context variable, so each thread and each asyncio task has its own. A mode is entered with
`with`, and is left whatever happens inside.
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
    zeros: int = 0
    """How the rules that run now take zeros that meet infinite derivatives; see zeros.py."""


CURRENT: ContextVar[Modes] = ContextVar("allgrad_modes", default=Modes())  # noqa: B039 - a NamedTuple is immutable


class switched:  # noqa: N801 - used like a function; a context made of a generator costs twice as much
    """A context in which some of the modes have other values."""

    __slots__ = ("changes", "token")

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def __enter__(self) -> None:
        # What `_replace` does, in a third of the time: each field's name is looked up among the changes.
        self.token = CURRENT.set(Modes._make(map(self.changes.get, Modes._fields, CURRENT.get())))

    def __exit__(self, *_: object) -> None:
        CURRENT.reset(self.token)


class walking:  # noqa: N801 - as above
    """`switched` for a backward walk: whether its rules are recorded, and how they take zeros; in a third of the time."""

    __slots__ = ("recording", "token", "zeros")

    def __init__(self, recording: bool, zeros: int) -> None:
        self.recording, self.zeros = recording, zeros

    def __enter__(self) -> None:
        _, anomaly, forward, reverse, _ = CURRENT.get()
        self.token = CURRENT.set(Modes(self.recording, anomaly, forward, reverse, self.zeros))

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

    The message names the operation and the line of code that called it. Every result is scanned, which costs time.

    >>> import numpy as np, allgrad as ag
    >>> x = ag.tensor([0.0, 1.0], requires_grad=True)
    >>> with ag.detect_anomaly(), np.errstate(divide="ignore"):
    ...     np.log(x)                                     # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    allgrad.autodiff.errors.AnomalyError: log gave -inf ...
    """
    with switched(anomaly=True):
        yield
