"""The methods of ufuncs: `np.add.reduce`, `np.multiply.accumulate`, `np.subtract.outer` and the like.

`reduce` and `accumulate` are the function that NumPy has for them (sum, prod, max, min, cumsum, cumprod), along the
first axis unless one is given; `outer` exists for every differentiated ufunc of two arguments. `at` writes into its
argument and raises; `reduceat`, and `reduce` and `accumulate` of other ufuncs, have no rule and raise by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.tensor import RULES
from allgrad.numpy.arguments import operand
from allgrad.numpy.dispatch import CONSTANT, implements

if TYPE_CHECKING:
    from collections.abc import Callable


def _reduce(function: Any, *, casts: bool) -> Callable[..., Any]:
    def reduce(
        array: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        keywords: dict[str, Any] = {"axis": axis, "out": out, "keepdims": keepdims, "initial": initial, "where": where}
        if casts:
            keywords["dtype"] = dtype
        elif dtype is not None:
            array = np.astype(array, dtype)
        return RULES[function](array, **keywords)

    return reduce


def _accumulate(function: Any) -> Callable[..., Any]:
    return lambda array, axis=0, dtype=None, out=None: RULES[function](array, axis=axis, dtype=dtype, out=out)


def _outer(ufunc: np.ufunc) -> Callable[..., Any]:
    def outer(a: Any, b: Any, /, **keywords: Any) -> Any:
        a, b = (operand(x) for x in (a, b))
        return ufunc(np.reshape(a, a.shape + (1,) * b.ndim), b, **keywords)

    return outer


def _refuse_at(ufunc: np.ufunc) -> Callable[..., Any]:
    def at(*args: Any, **keywords: Any) -> Any:  # noqa: ARG001
        raise NoRuleError(
            f"np.{ufunc.__name__}.at writes into its first argument, which the tape cannot follow. "
            f"Write `y = x.copy(); y[i] = np.{ufunc.__name__}(y[i], ...)`, which is differentiated."
        )

    return at


implements((np.add, "reduce"))(_reduce(np.sum, casts=True))
implements((np.multiply, "reduce"))(_reduce(np.prod, casts=True))
implements((np.maximum, "reduce"))(_reduce(np.max, casts=False))
implements((np.minimum, "reduce"))(_reduce(np.min, casts=False))
implements((np.add, "accumulate"))(_accumulate(np.cumsum))
implements((np.multiply, "accumulate"))(_accumulate(np.cumprod))

for _function in [f for f in RULES if isinstance(f, np.ufunc) and f not in CONSTANT and f.signature is None]:
    implements((_function, "at"))(_refuse_at(_function))
    if _function.nin == 2 and _function.nout == 1:
        implements((_function, "outer"))(_outer(_function))
