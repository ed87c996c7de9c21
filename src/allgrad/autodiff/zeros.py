"""Zeros that may be limits: what 0 times an infinite derivative is.

At a singular point a derivative is infinite (that of sqrt at 0) and meets factors that are 0. There are two kinds of zeros:

* An *exact* zero stays 0 around the point: an entry that `np.where` did not choose, a cotangent or tangent that was 0 from the
  start, a constant factor. Exact zeros win: 0 times infinity is 0, because the entry has no influence on the result.
* Any other zero is the value of something that varies: `2 * s` at s = 0. Then the product is a limit that the numbers at this
  point do not tell. For sqrt(x) * sqrt(x) it is 1, for sqrt(x)**3 it is 0. The result is NaN.

Telling them apart costs time, so it is done only where it matters (`Modes.zeros`): in backward walks through a singular point,
in derivatives of derivatives, and in forward mode. There a zero of the second kind is represented by a subnormal number
(`LIMIT`). Sums, slices, products and all other linear maps carry it along. Where a derivative leaves the walk or the transform,
subnormal numbers become 0 again (`settle`). float16 has no room for that, so all its zeros win.

One limit is known. The arguments of sqrt, arcsin, arccos and arccosh cannot cross the end of the domain. Where an argument
touches it with derivative 0, the composition has the derivative 0 or a kink (sqrt(x * x) = |x|), and the result is 0. Forward
mode sees the zero first, as a tangent, and reverse mode sees the infinity first, so they are separate modes. cbrt and small
powers have no such end (cbrt(x**3) = x). With one of them in the graph, infinity times 0 is NaN in reverse mode too (`CUSP`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from allgrad.autodiff.operators import Operators

EXACT: Final = 0
"""All zeros win: there is no singular point."""
FORWARD: Final = 1
"""Tangents pass from arguments to results."""
KINK: Final = 2
"""Cotangents pass from results to arguments; infinite derivatives are at the ends of domains."""
CUSP: Final = 3
"""As `KINK`, but an infinite derivative may be inside a domain."""

SMALLEST = {np.dtype(t): np.finfo(t).tiny for t in (np.float32, np.float64, np.complex64, np.complex128)}
"""The smallest normal number, by dtype."""
LIMIT = {dtype: dtype.type(tiny * 2.0**-20) for dtype, tiny in SMALLEST.items()}
"""What represents a zero that may be a limit, by dtype; a million of them are still subnormal."""


class Exact(np.ndarray[Any, Any]):
    """An array whose zeros are exact."""


def exact(x: Any) -> Any:
    """A factor whose zeros are exact: it does not vary, or is a cotangent, whose other zeros are subnormal."""
    if isinstance(x, Operators):
        return x.having(x.value.view(Exact), x.node, x.tangents)
    return np.asarray(x).view(Exact) if isinstance(x, (np.ndarray, np.generic)) else x


def plain(x: Any) -> Any:
    """`x` as an array of NumPy's own type."""
    return x.view(np.ndarray) if isinstance(x, Exact) else x


def inexact(x: Any) -> Any:
    """A factor that varies, with subnormal numbers for its zeros."""
    value = x.value if isinstance(x, Operators) else x
    if value.dtype not in LIMIT or np.count_nonzero(value) == value.size:
        return x
    value = np.where(np.equal(value, 0), LIMIT[value.dtype], value)
    return x.having(value, x.node, x.tangents) if isinstance(x, Operators) else value


def subnormal(x: Any) -> Any:
    """Where `x` is a zero that may be a limit."""
    size = np.abs(x)
    return (size > 0) & (size < SMALLEST.get(np.result_type(x), 0))


def settle(x: Any) -> Any:
    """`x` with 0 for subnormal numbers; a Tensor keeps its place on the tape and its tangents."""
    value = x.value if isinstance(x, Operators) else x
    limits = subnormal(value)
    if not np.any(limits):
        return x
    value = np.where(limits, value.dtype.type(0), value)
    return x.having(value, x.node, x.tangents) if isinstance(x, Operators) else value
