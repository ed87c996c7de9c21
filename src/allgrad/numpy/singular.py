"""Products and quotients in which zero wins, so that one entry's infinite derivative does not spoil another's gradient.

In `np.where(x > 0, np.log(x), 0)` the entries with x = 0 receive a cotangent of exactly 0, and log'(0) is infinite. In floating
point 0 * inf is NaN. Here it is 0, because a cotangent of 0 means that the entry has no influence on the result. The same
holds in forward mode. An infinite derivative that the result does depend on stays infinite: grad(np.sqrt)(0.) is inf.

    product(a, b) = a * b, and 0 where a or b is 0
    quotient(a, b) = a / b, and 0 where a is 0

Both are linear in `a`, so rules pass the cotangent (or tangent) as `a`. The check comes after the computation: the sum of the
squares of the result is finite unless an entry is not (or the sum overflows, which only costs time). It takes one pass at the
speed of memory, or 0.4 us on small arrays. NumPy's warnings are off while rules run.

A 0 that is only a limit counts as 0 too, in both modes: for cbrt(x**3) at 0, where the true derivative is 1, both modes give 0.
Where the limit is known, it is written out: see roots.py.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import Primitive, Rule
from allgrad.autodiff.tensor import Tensor


def times(a: Any, b: Any) -> Any:
    """`product` of plain arrays."""
    result = a * b
    return result if isfinite(np.vdot(result, result).real) else _zero_wins(result, a, b)


def over(a: Any, b: Any) -> Any:
    """`quotient` of plain arrays; silent, since values are computed with it too (the sign of a complex number)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result = a / b
    return result if isfinite(np.vdot(result, result).real) else _zero_wins(result, a, 1)


def _zero_wins(result: Any, a: Any, b: Any) -> Any:
    return np.where(np.logical_or(np.equal(a, 0), np.equal(b, 0)), result.dtype.type(0), result)


class Factor(Rule):
    """A rule given by the factor that multiplies the cotangent (or tangent): an elementwise function's partial derivative."""

    __slots__ = ()

    def __call__(self, g: Any, picked: Any, keywords: Any, **extra: Any) -> Any:  # noqa: ARG002
        factor = self.function(*picked)
        if isinstance(g, Tensor) or isinstance(factor, Tensor):
            return product(g, factor)
        return times(g, factor)


class Quotient(Rule):
    """A rule given by the denominator that divides the cotangent (or tangent)."""

    __slots__ = ()

    def __call__(self, g: Any, picked: Any, keywords: Any, **extra: Any) -> Any:  # noqa: ARG002
        return quotient(g, self.function(*picked))


product: Primitive = Primitive(
    times,
    name="product",
    vjp={"a": lambda g, b: product(g, b), "b": lambda g, a: product(g, a)},
    jvp={"a": lambda t, b: product(t, b), "b": lambda t, a: product(t, a)},
)

quotient: Primitive = Primitive(
    over,
    name="quotient",
    vjp={"a": lambda g, b: quotient(g, b), "b": lambda g, ans, b: -quotient(product(g, ans), b)},
    jvp={"a": lambda t, b: quotient(t, b), "b": lambda t, ans, b: -quotient(product(t, ans), b)},
)
