"""A line search for the strong Wolfe conditions: enough decrease, and a slope that is small enough.

Reference: Nocedal & Wright, "Numerical Optimization" (2006), algorithms 3.5 (bracketing) and 3.6 (zoom), with cubic
interpolation by values and slopes (their equation 3.59).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, np.dtype[Any]]

DECREASE, SLOPE = 1e-4, 0.9
"""The constants c1 and c2 of the two conditions."""
EVALUATIONS = 25
EDGE = 0.1
"""A new point keeps this share of the bracket's width from its ends."""


class Found(NamedTuple):
    """A step length, the loss and gradient there, and the number of evaluations that it took."""

    length: float
    loss: float
    gradient: Array
    evaluations: int


class _Point(NamedTuple):
    length: float
    loss: float
    slope: float
    gradient: Array


def strong_wolfe(
    evaluate: Callable[[float], tuple[float, Array]],
    direction: Array,
    loss: float,
    gradient: Array,
    length: float,
    tolerance: float = 1e-9,
) -> Found:
    """Find a step length along `direction`, in at most 25 evaluations.

    Args:
        evaluate: step length -> loss and gradient (n,) there.
        direction: (n,) float, a descent direction.
        loss: at length 0.
        gradient: (n,) float, at length 0.
        length: the first length to try.
        tolerance: give up when the bracket moves no parameter by more than this.

    Returns:
        A point that satisfies both conditions, or else the best one found; if none is better, length 0.

    Example:
        >>> import numpy as np
        >>> def evaluate(length):
        ...     x = np.array([1.0]) - length * 2
        ...     return float(x @ x), 2 * x
        >>> strong_wolfe(evaluate, np.array([-2.0]), 1.0, np.array([2.0]), 10.0).length
        0.5
    """
    count = 0

    def at(length: float) -> _Point:
        nonlocal count
        count += 1
        loss, gradient = evaluate(length)
        return _Point(length, loss, float(np.dot(gradient, direction)), gradient)

    start = _Point(0.0, loss, float(np.dot(gradient, direction)), gradient)
    reach = float(np.abs(direction).max(initial=0))

    def decreases(point: _Point) -> bool:
        return point.loss <= start.loss + DECREASE * point.length * start.slope  # False for NaN

    def flat(point: _Point) -> bool:
        return abs(point.slope) <= -SLOPE * start.slope

    def found(point: _Point) -> Found:
        return Found(point.length, point.loss, point.gradient, count)

    low, high = start, at(length)
    while decreases(high) and (low is start or high.loss < low.loss):
        if flat(high) or count >= EVALUATIONS:
            return found(high)
        if high.slope >= 0:
            low, high = high, low
            break
        low, high = high, at(_extrapolated(low, high))
    while count < EVALUATIONS and abs(high.length - low.length) * reach > tolerance:
        point = at(_interpolated(low, high))
        if not decreases(point) or point.loss >= low.loss:
            high = point
            continue
        if flat(point):
            return found(point)
        if point.slope * (high.length - low.length) >= 0:
            high = low
        low = point
    return found(low)


def _cubic_minimum(a: _Point, b: _Point) -> float:
    """Where the cubic through both values and slopes is smallest; NaN if it has no minimum."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.length - b.length)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.length - a.length)
    bottom = b.slope - a.slope + 2 * d2
    return b.length - (b.length - a.length) * (b.slope + d2 - d1) / bottom if bottom else math.nan


def _extrapolated(low: _Point, high: _Point) -> float:
    """Further along: the minimum of the cubic, between just beyond the last length and ten times that."""
    least, most = high.length + 0.01 * (high.length - low.length), 10 * high.length
    guess = _cubic_minimum(low, high)
    return min(max(guess, least), most) if math.isfinite(guess) else most


def _interpolated(low: _Point, high: _Point) -> float:
    """Inside the bracket: the cubic's minimum, or the middle, not too near the ends."""
    left, right = sorted((low.length, high.length))
    guess = _cubic_minimum(low, high)
    if not math.isfinite(guess):
        guess = (left + right) / 2
    edge = EDGE * (right - left)
    return min(max(guess, left + edge), right - edge)
