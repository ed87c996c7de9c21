"""How long a run still takes, from how long its steps and evaluations took so far.

The estimate is right from its first value on, because what is not typical does not enter it:

- the first step of this process, in which kernels may be compiled and memory is touched for the first time;
- evaluations and checkpoints, which are not part of a step: their own time is added for those that are still to come;
- steps that took more than three times the median, such as one during which the machine did something else.

Before the first evaluation has been measured, its cost is taken as a share of a step's that the caller knows from the sizes
of the data: a forward pass costs about a third of a training step on the same samples.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean, median

__all__ = ["Pace"]

_RECENT = 100


class Pace:
    """Measures steps and evaluations, and estimates the time that is left.

    Args:
        steps: how many steps the run has.
        eval_every: steps between evaluations; None for a single one, at the end.
        evaluation_in_steps: what an evaluation costs, in steps, until one has been measured.

    Example:
        >>> pace = Pace(100, eval_every=50, evaluation_in_steps=5.0)
        >>> for seconds in (30.0, 0.5, 0.5):
        ...     pace.step(seconds)
        >>> pace.seconds_left(3)
        53.5
        >>> pace.evaluation(4.0)
        >>> pace.seconds_left(50)
        33.0
    """

    def __init__(self, steps: int, *, eval_every: int | None, evaluation_in_steps: float) -> None:
        self.steps, self.eval_every, self.evaluation_in_steps = steps, eval_every, evaluation_in_steps
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._evaluation: float | None = None
        self._warm = False

    def step(self, seconds: float) -> None:
        """A step took so long."""
        if self._warm:
            self._recent.append(seconds)
        self._warm = True

    def evaluation(self, seconds: float) -> None:
        """An evaluation took so long."""
        self._evaluation = seconds

    @property
    def seconds_per_step(self) -> float | None:
        """The mean of the recent steps; None before the second one."""
        if not self._recent:
            return None
        limit = 3 * median(self._recent)
        return fmean(seconds for seconds in self._recent if seconds <= limit)

    def seconds_left(self, step: int) -> float | None:
        """The time from the end of step number `step` (from 1), before its evaluation; None before the second step."""
        each = self.seconds_per_step
        if each is None:
            return None
        evaluation = each * self.evaluation_in_steps if self._evaluation is None else self._evaluation
        return each * (self.steps - step) + evaluation * self._evaluations_from(step)

    def _evaluations_from(self, step: int) -> int:
        """How many evaluations there are from that of step number `step` on."""
        every = self.eval_every or self.steps
        return -(-self.steps // every) - (step - 1) // every
