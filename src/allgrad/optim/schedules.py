"""Learning-rate schedules: pure functions of the step.

A schedule maps the number of steps done (0, 1, ...) to a factor; a `Scheduler` multiplies each group's base learning
rate by it. So a resumed run needs nothing but its step, and any group structure works with any schedule.

    scheduler = Scheduler(optimizer, WarmUp(500, Cosine(10_000)))
    for step in range(10_000):
        scheduler.set(step)
        ...
        optimizer.step()
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.optim.optimizer import Optimizer


class Schedule(Protocol):
    """Anything that maps a step to a factor."""

    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True)
class Constant:
    """Always 1.

    Example:
        >>> Constant()(1000)
        1.0
    """

    def __call__(self, step: int) -> float:  # noqa: ARG002  # the schedule that does not look
        return 1.0


@dataclass(frozen=True)
class StepDecay:
    """Multiply by `gamma` every `every` steps (PyTorch's StepLR).

    Example:
        >>> [StepDecay(every=2, gamma=0.1)(step) for step in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """

    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "every")

    def __call__(self, step: int) -> float:
        return float(self.gamma ** (step // self.every))


@dataclass(frozen=True)
class Polynomial:
    """From 1 to `final` in `total` steps along (1 - step / total)^power, then `final`.

    Example:
        >>> [Polynomial(total=4, power=2.0)(step) for step in (0, 2, 4, 9)]
        [1.0, 0.25, 0.0, 0.0]
    """

    total: int
    power: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "total")

    def __call__(self, step: int) -> float:
        return self.final + (1 - self.final) * float((1 - _progress(step, self.total)) ** self.power)


@dataclass(frozen=True)
class Linear:
    """From 1 to `final` in `total` steps in a straight line, then `final`.

    Example:
        >>> [Linear(total=4)(step) for step in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """

    total: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "total")

    def __call__(self, step: int) -> float:
        return 1 - (1 - self.final) * _progress(step, self.total)


@dataclass(frozen=True)
class Cosine:
    """From 1 to `final` in `total` steps along half a cosine, then `final` (Loshchilov & Hutter, SGDR, 2017).

    Example:
        >>> [round(Cosine(total=4)(step), 3) for step in (0, 2, 4, 9)]
        [1.0, 0.5, 0.0, 0.0]
    """

    total: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "total")

    def __call__(self, step: int) -> float:
        return self.final + (1 - self.final) * _half_cosine(_progress(step, self.total))


@dataclass(frozen=True)
class OneCycle:
    """Up to 1 and down again along half cosines (Smith & Topin 2018; PyTorch's OneCycleLR without its momentum cycle).

    Starts at 1 / `divide`, is 1 after the fraction `peak` of `total` steps, ends at 1 / (`divide` * `final_divide`).
    The group's learning rate is the peak's.

    Example:
        >>> cycle = OneCycle(total=11, peak=0.5, divide=10.0, final_divide=10.0)
        >>> [round(cycle(step), 3) for step in (0, 10, 99)]
        [0.1, 0.01, 0.01]
    """

    total: int
    peak: float = 0.3
    divide: float = 25.0
    final_divide: float = 1e4

    def __post_init__(self) -> None:
        _positive(self, "total")
        _positive(self, "divide")
        _positive(self, "final_divide")
        if not 0 <= self.peak <= 1:
            raise ValueError(f"OneCycle: peak must be between 0 and 1. Got {self.peak} instead.")

    def __call__(self, step: int) -> float:
        top, end = self.peak * self.total - 1, self.total - 1
        low, lowest = 1 / self.divide, 1 / (self.divide * self.final_divide)
        if step <= top:
            return 1 + (low - 1) * _half_cosine(step / top if top > 0 else 1.0)
        return lowest + (1 - lowest) * _half_cosine(min(1.0, (step - top) / (end - top)) if end > top else 1.0)


@dataclass(frozen=True)
class WarmUp:
    """A straight line from `start` to 1 over the first `steps` steps, then `after`, which counts from 0 there.

    `start` defaults to 1 / steps. Large batches need it (Goyal et al., "Accurate, Large Minibatch SGD", 2017).

    Example:
        >>> [WarmUp(4, Constant())(step) for step in (0, 2, 4, 5)]
        [0.25, 0.625, 1.0, 1.0]
    """

    steps: int
    after: Schedule
    start: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"WarmUp: steps must be 0 or more. Got {self.steps} instead.")

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.after(step - self.steps)
        start = 1 / self.steps if self.start is None else self.start
        return (start + (1 - start) * step / self.steps) * self.after(0)


class Scheduler:
    """Writes `base * schedule(step)` into the learning rate of each group.

    Args:
        optimizer: the base is its groups' learning rates at this moment.
        schedule: one for all groups.

    Example:
        >>> import allgrad as ag
        >>> from allgrad.optim import SGD
        >>> optimizer = SGD([ag.tensor([1.0], requires_grad=True)], lr=0.5)
        >>> scheduler = Scheduler(optimizer, Linear(total=10))
        >>> scheduler.set(5)
        >>> optimizer.groups[0].lr
        0.25
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        self.optimizer, self.schedule = optimizer, schedule
        self.base = [float(group.lr) for group in optimizer.groups]

    def set(self, step: int) -> None:
        """Set the learning rates for the step after `step` steps were done."""
        factor = self.schedule(step)
        for group, base in zip(self.optimizer.groups, self.base, strict=True):
            group.lr = base * factor

    def state_dict(self) -> dict[str, Any]:
        """The base learning rates; JSON-able."""
        return {"base": list(self.base)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`. Raises ValueError if the number of groups differs."""
        if len(state["base"]) != len(self.base):
            raise ValueError(f"Scheduler: expected {len(self.base)} groups. Got {len(state['base'])} instead.")
        self.base = [float(value) for value in state["base"]]


def scaled_lr(lr: float, *, batch: int, reference_batch: int) -> float:
    """The linear scaling rule: k times the batch, k times the learning rate (Goyal et al. 2017, section 2.1).

    Example:
        >>> scaled_lr(0.1, batch=1024, reference_batch=256)
        0.4
    """
    if batch < 1 or reference_batch < 1:
        raise ValueError(f"scaled_lr: batch sizes must be 1 or more. Got {batch} and {reference_batch} instead.")
    return lr * batch / reference_batch


def _progress(step: int, total: int) -> float:
    return min(1.0, step / total)


def _half_cosine(x: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * x)) / 2


def _positive(schedule: Any, field: str) -> None:
    if not getattr(schedule, field) > 0:
        raise ValueError(
            f"{type(schedule).__name__}: {field} must be above 0. Got {getattr(schedule, field)!r} instead."
        )
