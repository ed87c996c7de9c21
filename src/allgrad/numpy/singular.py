"""Products and quotients in which zero wins: what keeps one entry's singular derivative from reaching another's gradient.

In `np.where(x > 0, np.log(x), 0)` the entries with x = 0 receive a cotangent of exactly 0, and log'(0) is infinite. In floating
point 0 * inf is NaN; here it is 0, because a cotangent of 0 says that the entry has no influence on the result. The same
in forward mode. An infinite derivative that something does depend on stays infinite: grad(np.sqrt)(0.) is inf.

    product(a, b) = a * b, and 0 where a or b is 0
    quotient(a, b) = a / b, and 0 where a is 0

Both are linear in `a`, so rules use them with the cotangent (or tangent) as `a`. They look for trouble after the fact (one
pass over the result), so that the usual case costs one multiplication, and no NaN slips by.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.primitive import Primitive


def _product(a: Any, b: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.multiply(a, b)
        if not np.isfinite(result).all():
            result = np.where(np.logical_or(np.equal(a, 0), np.equal(b, 0)), result.dtype.type(0), result)
    return result


def _quotient(a: Any, b: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.true_divide(a, b)
        if not np.isfinite(result).all():
            result = np.where(np.equal(a, 0), result.dtype.type(0), result)
    return result


product: Primitive = Primitive(
    _product,
    name="product",
    vjp={"a": lambda g, b: product(g, b), "b": lambda g, a: product(g, a)},
    jvp={"a": lambda t, b: product(t, b), "b": lambda t, a: product(t, a)},
)

quotient: Primitive = Primitive(
    _quotient,
    name="quotient",
    vjp={"a": lambda g, b: quotient(g, b), "b": lambda g, ans, b: -quotient(product(g, ans), b)},
    jvp={"a": lambda t, b: quotient(t, b), "b": lambda t, ans, b: -quotient(product(t, ans), b)},
)
