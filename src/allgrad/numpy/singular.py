"""Products and quotients in which exact zeros win, so that one entry's infinite derivative does not spoil another's gradient.

In `np.where(x > 0, np.log(x), 0)` the entries with x = 0 receive a cotangent of exactly 0, and log'(0) is infinite. In floating
point 0 * inf is NaN. Here it is 0, because a cotangent of 0 means that the entry has no influence on the result. The same
holds in forward mode. An infinite derivative that the result does depend on stays infinite: grad(np.sqrt)(0.) is inf. A zero
that is only a limit gives NaN; autodiff/zeros.py says how the two are told apart.

    product(a, b) = a * b, and 0 where a or b is an exact zero
    quotient(a, b) = a / b, and 0 where a is an exact zero

Both are linear in `a`, so rules pass the cotangent (or tangent) as `a`. The check comes after the computation: the sum of the
squares of the result is finite unless an entry is not (or the sum overflows, which only costs time). It takes one pass at the
speed of memory, or 0.4 us on small arrays. NumPy's warnings are off while rules run.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from allgrad.autodiff.modes import CURRENT
from allgrad.autodiff.primitive import Primitive, Rule
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.zeros import FORWARD, KINK, LIMIT, Exact, exact, subnormal


def times(a: Any, b: Any) -> Any:
    """`product` of plain arrays."""
    result = a * b
    finite = _finite(result)
    zeros = CURRENT.get().zeros
    if not zeros or result.dtype not in LIMIT:
        return result if finite else _zero_wins(result, a, b)
    varies = isinstance(b, (np.ndarray, np.generic)) and not isinstance(b, Exact) and b.dtype != bool
    result = np.asarray(result)  # without the type of b
    if finite and not (varies and np.count_nonzero(b) < np.size(b)):
        return result
    if varies:
        limit = np.where(zeros == KINK or np.isfinite(a), LIMIT[result.dtype], np.nan)
        result = np.where(np.equal(b, 0), limit, result)
        b = np.where(np.equal(b, 0), 1, b)
    unknown = (subnormal(a) & np.isinf(b)) | (np.isinf(a) & subnormal(b))
    return _zero_wins(np.where(unknown, result.dtype.type(np.nan), result), a, b)


def _finite(x: Any) -> bool:
    """Whether all entries are finite and their squares do not overflow."""
    return isfinite(x) if not x.ndim and x.dtype.kind == "f" else isfinite(np.vdot(x, x).real)


def over(a: Any, b: Any, at_end: bool = False) -> Any:
    """`quotient` of plain arrays. `at_end` says that b is 0 only at an end of a function's domain."""
    result = a / b
    if _finite(result):
        return result
    zeros = CURRENT.get().zeros
    if zeros and result.dtype in LIMIT:
        limit = LIMIT[result.dtype] if at_end and zeros == FORWARD else result.dtype.type(np.nan)
        result = np.where(subnormal(a) & np.equal(b, 0), limit, result)
    return _zero_wins(result, a, 1)


def _zero_wins(result: Any, a: Any, b: Any) -> Any:
    return np.where(np.logical_or(np.equal(a, 0), np.equal(b, 0)), result.dtype.type(0), result)


def product(a: Any, b: Any) -> Any:
    return _product(a, b) if isinstance(a, Tensor) or isinstance(b, Tensor) else times(a, b)


def quotient(a: Any, b: Any, at_end: bool = False) -> Any:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return (_quotient_at_end if at_end else _quotient)(a, b)
    return over(a, b, at_end)


class Factor(Rule):
    """A rule given by the factor that multiplies the cotangent (or tangent): an elementwise function's partial derivative."""

    __slots__ = ()

    def direct(self, g: Any, *picked: Any) -> Any:
        return product(g, self.function(*picked))


class Quotient(Rule):
    """A rule given by the denominator that divides the cotangent (or tangent)."""

    __slots__ = ("at_end",)

    def __init__(self, denominator: Any, *, at_end: bool) -> None:
        super().__init__(denominator, factor=True)
        self.at_end = at_end

    def direct(self, g: Any, *picked: Any) -> Any:
        return quotient(g, self.function(*picked), self.at_end)


_product: Primitive = Primitive(
    times,
    name="product",
    vjp={"a": lambda g, b: product(g, b), "b": lambda g, a: product(g, exact(a))},
    jvp={"a": lambda t, b: product(t, b), "b": lambda t, a: product(t, exact(a))},
)

_quotient_rules: dict[str, Any] = {
    "a": lambda g, b: quotient(g, b),
    "b": lambda g, ans, b: -quotient(product(g, exact(ans)), b),
}


def _divided(at_end: bool) -> Primitive:
    def value(a: Any, b: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):  # the sign of a complex number is such a value
            return over(a, b, at_end)

    return Primitive(value, name="quotient", vjp=_quotient_rules, jvp=_quotient_rules)


_quotient, _quotient_at_end = _divided(at_end=False), _divided(at_end=True)
