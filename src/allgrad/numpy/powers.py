"""Powers: x**y for arrays, with a fast path for a Python number as exponent; square and square root.

Singular points, in both modes and at every order:

* x**0 is 1 everywhere, so its derivative by x is 0, also at x = 0.
* 0**y is 0 for y > 0, so its derivative by y is 0; at y = 0 it is taken as 0 too.
* x**n for 0 < n < 1 has an infinite derivative at 0, which a cotangent of 0 turns into 0 (singular.py).
* A negative base has no derivative by a real exponent: NaN.

NumPy is hundreds of times slower for `x**3` than for `x * x * x`, so whole exponents up to 8 are multiplied out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.primitive import Primitive
from allgrad.autodiff.tensor import RULES, Tensor
from allgrad.autodiff.zeros import CUSP, KINK
from allgrad.numpy.dispatch import elementwise, implements, inverse_slope, ufunc_rule
from allgrad.numpy.roots import Root, rooted
from allgrad.numpy.singular import product

MULTIPLIED_OUT = 8


def _whole_power(x: Any, *, n: int) -> Any:
    """x**n by repeated squaring, for n > 0."""
    if n == 1:
        return np.copy(x)
    half = x if n < 4 else _whole_power(x, n=n // 2)
    squared = half * half
    return squared * x if n % 2 else squared


whole_power = Primitive(
    _whole_power,
    name="power",
    vjp={"x": lambda g, x, *, n: product(g, _slope(x, n))},
    jvp={"x": lambda t, x, *, n: product(t, _slope(x, n))},
)


def _slope(x: Any, n: int) -> Any:
    return n * x if n == 2 else n * whole_power(x, n=n - 1) if n > 1 else 1.0


scalar_power = Primitive(
    lambda x, *, n: np.power(x, n),
    name="power",
    vjp={"x": lambda g, x, *, n: product(g, n * np.power(x, n - 1)) if n else np.zeros_like(g)},
    jvp={"x": lambda t, x, *, n: product(t, n * np.power(x, n - 1)) if n else np.zeros_like(t)},
    singular=lambda _, x, *, n: CUSP if 0 < n < 1 and not np.all(x) else 0,
)


def _base_factor(x: Any, y: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return product(y, np.power(x, y - 1))


def _exponent_factor(ans: Any, x: Any, y: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        if not np.all(x):
            x = np.where(np.logical_and(np.equal(x, 0), np.greater_equal(np.real(y), 0)), 1, x)
        return ans * np.log(x)


_RULES: dict[str, Any] = {
    "x": lambda g, x, y: product(g, _base_factor(x, y)),
    "y": lambda g, ans, x, y: product(g, _exponent_factor(ans, x, y)),
}

_square = elementwise(np.square, x=lambda x: 2 * x)


@implements(np.square)
def square(x: Any, /, **keywords: Any) -> Any:
    return power(x, 2) if type(x) is Root and not keywords else _square(x, **keywords)


_sqrt = inverse_slope(
    np.sqrt, lambda ans: 2 * ans, singular=lambda ans, _: 0 if np.count_nonzero(ans) == ans.size else KINK
)


@implements(np.sqrt)
def sqrt(x: Any, /, **keywords: Any) -> Any:
    root = _sqrt(x, **keywords)
    return root if keywords else rooted(root, lambda: +x)


def _infinite_slope(ans: Any, x: Any, y: Any) -> int:  # noqa: ARG001
    return 0 if np.all(x) else CUSP if np.any(np.equal(x, 0) & np.less(np.real(y), 1) & np.not_equal(y, 0)) else 0


_power = ufunc_rule(np.power, vjp=_RULES, jvp=_RULES, singular=_infinite_slope)
ufunc_rule(np.float_power, vjp=_RULES, jvp=_RULES, singular=_infinite_slope)


@implements(np.power)
def power(x: Any, y: Any, /, **keywords: Any) -> Any:
    if keywords or type(y) not in (int, float) or not isinstance(x, Tensor) or x.dtype.kind not in "fc":
        return _power(x, y, **keywords)
    if y == int(y) if isinstance(y, float) and np.isfinite(y) else isinstance(y, int):
        n = int(y)
        if type(x) is Root and n > 0 and n % 2 == 0 and (squared := x.squared()) is not None:
            return squared if n == 2 else power(squared, n // 2)
        if n == 2:
            return _square(x)
        if 0 < n <= MULTIPLIED_OUT:
            return whole_power(x, n=n)
        if n == -1:
            return RULES[np.reciprocal](x)
    elif y == 0.5:
        return sqrt(x)
    return scalar_power(x, n=y)
