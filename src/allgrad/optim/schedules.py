"""Learning-rate schedules: pure functions of the step.

A schedule maps the number of steps done (0, 1, ...) to a factor, by which a `Scheduler` multiplies the base learning rate
of each group. A resumed run therefore needs only its step number, and any schedule works with any groups.

    scheduler = Scheduler(optimizer, WarmUp(500, Cosine(10_000)))
    for step in range(10_000):
        scheduler.set(step)
        ...
        optimizer.step()
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_type_hints

from annotated_types import Ge

from allgrad.kernels.portable_math import cos, power
from allgrad.optim.settings import Count, Fraction, NonNegative, Positive, checked
from allgrad.stateful import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.optim.optimizer import Optimizer


class Schedule(Protocol):
    """Anything that maps a step to a factor."""

    def __call__(self, step: int) -> float: ...


class _Checked:
    """Checks the fields of a dataclass against their annotations."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):  # type: ignore[arg-type]
            if hints[field.name] is not Schedule:
                value = checked(type(self).__name__, field.name, getattr(self, field.name), hints[field.name])
                object.__setattr__(self, field.name, value)


@dataclass(frozen=True)
class Constant(_Checked):
    """Always 1.

    Example:
        >>> Constant()(1000)
        1.0
    """

    def __call__(self, step: int) -> float:  # noqa: ARG002  # constant in the step
        return 1.0


@dataclass(frozen=True)
class StepDecay(_Checked):
    """Multiply by `gamma` every `every` steps (PyTorch's StepLR).

    Args:
        every: steps between two decays.
        gamma: the factor.

    Example:
        >>> [StepDecay(every=2, gamma=0.1)(step) for step in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """

    _: KW_ONLY
    every: Count
    gamma: Positive = 0.1

    def __call__(self, step: int) -> float:
        return float(power(self.gamma, step // self.every))


@dataclass(frozen=True)
class Polynomial(_Checked):
    """From 1 to `final` in `steps` steps along (1 - step / steps)^power, then constant.

    Args:
        steps: length of the decay.
        power: exponent; 1 is a straight line.
        final: the last factor.

    Example:
        >>> [Polynomial(4)(step) for step in (0, 2, 4, 9)]
        [1.0, 0.25, 0.0, 0.0]
    """

    steps: Count
    _: KW_ONLY
    power: Positive = 2.0
    final: Fraction = 0.0

    def __call__(self, step: int) -> float:
        return self.final + (1 - self.final) * float(power(1 - _progress(step, self.steps), self.power))


@dataclass(frozen=True)
class Linear(_Checked):
    """From 1 to `final` in `steps` steps along a straight line, then constant.

    Args:
        steps: length of the decay.
        final: the last factor.

    Example:
        >>> [Linear(4)(step) for step in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """

    steps: Count
    _: KW_ONLY
    final: Fraction = 0.0

    def __call__(self, step: int) -> float:
        return 1 - (1 - self.final) * _progress(step, self.steps)


@dataclass(frozen=True)
class Cosine(_Checked):
    """From 1 to `final` in `steps` steps along half a cosine, then constant.

    Reference: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (ICLR 2017), without restarts.

    Args:
        steps: length of the decay.
        final: the last factor.

    Example:
        >>> [round(Cosine(4)(step), 3) for step in (0, 2, 4, 9)]
        [1.0, 0.5, 0.0, 0.0]
    """

    steps: Count
    _: KW_ONLY
    final: Fraction = 0.0

    def __call__(self, step: int) -> float:
        return self.final + (1 - self.final) * _half_cosine(_progress(step, self.steps))


@dataclass(frozen=True)
class OneCycle(_Checked):
    """Up to 1 and down again along half cosines (PyTorch's OneCycleLR without its momentum cycle).

    It starts at 1 / `divide`, reaches 1 after the fraction `peak` of the steps, and ends at 1 / (`divide` * `final_divide`).
    The group's learning rate is the one at the peak.

    Reference: Smith & Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates" (2018).

    Args:
        steps: length of the cycle.
        peak: where the peak is, as a fraction of the steps.
        divide: the peak's factor over the first one.
        final_divide: the first factor over the last one.

    Example:
        >>> cycle = OneCycle(11, peak=0.5, divide=10.0, final_divide=10.0)
        >>> [round(cycle(step), 3) for step in (0, 10, 99)]
        [0.1, 0.01, 0.01]
    """

    steps: Count
    _: KW_ONLY
    peak: Fraction = 0.3
    divide: Positive = 25.0
    final_divide: Positive = 1e4

    def __call__(self, step: int) -> float:
        top, end = self.peak * self.steps - 1, self.steps - 1
        low, lowest = 1 / self.divide, 1 / (self.divide * self.final_divide)
        if step <= top:
            return 1 + (low - 1) * _half_cosine(step / top if top > 0 else 1.0)
        return lowest + (1 - lowest) * _half_cosine(min(1.0, (step - top) / (end - top)) if end > top else 1.0)


@dataclass(frozen=True)
class WarmUp(_Checked):
    """A straight line from `start` to 1 over the first `steps` steps, then `after`, which counts its steps from 0.

    Large batches need it: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour" (2017).

    Args:
        steps: length of the warm-up; 0 for none.
        after: the schedule that follows.
        start: the first factor. None: 1 / steps.

    Example:
        >>> [WarmUp(4, Constant())(step) for step in (0, 2, 4, 5)]
        [0.25, 0.625, 1.0, 1.0]
    """

    steps: Annotated[int, Ge(0)]
    after: Schedule
    start: NonNegative | None = None

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.after(step - self.steps)
        start = 1 / self.steps if self.start is None else self.start
        return (start + (1 - start) * step / self.steps) * self.after(0)


class Scheduler:
    """Sets the learning rate of each group to `base * schedule(step)`.

    Args:
        optimizer: its groups' learning rates at this moment are the base.
        schedule: one for all groups.

    Example:
        >>> import allgrad as ag
        >>> from allgrad.optim import SGD
        >>> optimizer = SGD([ag.tensor([1.0], requires_grad=True)], lr=0.5)
        >>> scheduler = Scheduler(optimizer, Linear(10))
        >>> scheduler.set(5)
        >>> optimizer.groups[0].lr
        0.25
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        self.optimizer, self.schedule = optimizer, schedule
        self.base = [float(group.lr) for group in optimizer.groups]

    def set(self, step: int) -> None:
        """Set the learning rates for the next step, after `step` steps were done."""
        factor = self.schedule(step)
        for group, base in zip(self.optimizer.groups, self.base, strict=True):
            group.lr = base * factor

    def state_dict(self) -> dict[str, Any]:
        """The base learning rates."""
        return {"base": list(self.base)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`.

        Raises:
            StateError: if the number of groups differs.
        """
        if len(state["base"]) != len(self.base):
            raise StateError(
                f"Scheduler.load_state_dict: expected {len(self.base)} groups. Got {len(state['base'])} instead."
            )
        self.base = [float(value) for value in state["base"]]


def scaled_lr(lr: float, *, batch: int, reference_batch: int) -> float:
    """The linear scaling rule: k times the batch, k times the learning rate (Goyal et al. 2017, section 2.1).

    Args:
        lr: the learning rate for `reference_batch`.
        batch: samples in a batch.
        reference_batch: samples in a batch for which `lr` is known to be good.

    Raises:
        ValueError: if a batch size is below 1.

    Example:
        >>> scaled_lr(0.1, batch=1024, reference_batch=256)
        0.4
    """
    if batch < 1 or reference_batch < 1:
        raise ValueError(f"scaled_lr: batch sizes must be 1 or more. Got {batch} and {reference_batch} instead.")
    return lr * batch / reference_batch


def _progress(step: int, steps: int) -> float:
    return min(1.0, step / steps)


def _half_cosine(x: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return float(1 + cos(math.pi * x)) / 2
