"""Derivatives of np.emath: the functions that turn complex where real numbers leave their domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.numpy.arguments import operand, value
from allgrad.numpy.dispatch import implements

if TYPE_CHECKING:
    from collections.abc import Callable


def _widened(x: Any, outside: Callable[[Any], Any]) -> Any:
    """x, as complex numbers if any of it is outside the real domain."""
    x = operand(x)
    if x.dtype.kind == "c" or not np.any(outside(value(x))):
        return x
    return x.astype(np.result_type(x.dtype, np.complex64))


def _declare(name: str, outside: Callable[[Any], Any]) -> None:
    function = getattr(np, name)
    implements(getattr(np.emath, name))(lambda x: function(_widened(x, outside)))


for _name in ("sqrt", "log", "log2", "log10"):
    _declare(_name, lambda x: x < 0)
for _name in ("arccos", "arcsin", "arctanh"):
    _declare(_name, lambda x: abs(x) > 1)


@implements(np.emath.logn)
def logn(n: Any, x: Any) -> Any:
    return np.log(_widened(x, lambda v: v < 0)) / np.log(_widened(n, lambda v: v < 0))


@implements(np.emath.power)
def power(x: Any, p: Any) -> Any:
    return np.power(_widened(x, lambda v: v < 0), operand(p))
