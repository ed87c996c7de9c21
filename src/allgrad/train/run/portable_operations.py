"""Which operations have the same bits on every CPU, and which do not.

With the numba kernels, every operation of `allgrad.nn` does. Of NumPy's own functions those do whose every entry is one correctly
rounded operation (IEEE 754: + - * / and the square root), those that only move or choose numbers, and sums, which NumPy adds in
an order that depends on shapes and strides alone. NumPy's exp, log, sin and so on choose their code by the CPU; its products
belong to BLAS; powers and remainders to the C library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.numpy.powers import whole_power

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.autodiff.primitive import Primitive

__all__ = ["PORTABLE_FUNCTIONS", "not_portable", "words"]

_OPERATIONS = """
add_at astype broadcast_to concatenate conjugate copy copysign diagonal flip getitem imag on_diagonal real reshape roll setitem
transpose where
absolute fabs fmax fmin heaviside max maximum min minimum nan_to_num nextafter
add deg2rad degrees divide multiply negative positive rad2deg radians reciprocal sqrt square subtract
bincount cumprod cumsum mean prod product quotient std sum var
"""
_FUNCTIONS = """
abs all allclose any append arange argmax argmin argpartition argsort array array_equal array_split asarray
ascontiguousarray atleast_1d atleast_2d atleast_3d average bitwise_and bitwise_or bool bool_ broadcast_arrays
broadcast_shapes c_ ceil choose clip column_stack compress concat count_nonzero delete diag diagflat diff digitize
dsplit dstack dtype e empty empty_like equal errstate expand_dims eye fill_diagonal finfo flatnonzero fliplr flipud
float16 float32 float64 floating floor floor_divide frombuffer fromiter full full_like generic greater greater_equal
hsplit hstack iinfo indices inf insert int16 int32 int64 int8 intp integer isclose isfinite isin isinf isnan issubdtype
ix_ less less_equal linspace load logical_and logical_not logical_or logical_xor matrix_transpose median meshgrid
moveaxis nan nanmax nanmean nanmin nansum ndarray ndim newaxis nonzero not_equal number ones ones_like outer pad
partition permute_dims pi ptp put_along_axis r_ random ravel ravel_multi_index repeat resize result_type rint round save
savez searchsorted shape sign signbit size sort split squeeze stack swapaxes take take_along_axis testing tile trace
trapezoid tri tril tril_indices triu triu_indices trunc typing ufunc uint16 uint32 uint64 uint8 unique unravel_index
unsignedinteger vsplit vstack zeros zeros_like
"""


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


PORTABLE_OPERATIONS = words(_OPERATIONS)
"""By the names that operations have on the tape: they move numbers, choose them, round once, or add in a fixed order."""

PORTABLE_FUNCTIONS = words(_OPERATIONS + _FUNCTIONS)
"""The functions and other names of `numpy` that a plugin may use and stay portable."""


def not_portable(operations: Iterable[Primitive]) -> list[str]:
    """The names of those operations whose bits depend on the CPU, or are not known not to.

    Example:
        >>> import numpy as np, allgrad as ag
        >>> from allgrad.autodiff.recorded import recorded_operations
        >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> with recorded_operations() as found:
        ...     y = np.sum(np.exp(x) * x**3)
        >>> not_portable(found)
        ['exp']
    """
    return sorted({operation.name for operation in operations if not _is_portable(operation)})


def _is_portable(operation: Primitive) -> bool:
    modules = {_module(function) for function in _functions(operation)}
    if operation.by_user or not all(module.startswith("allgrad.") for module in modules - {"numpy"}):
        return False
    in_layers = any(module.startswith("allgrad.nn.") for module in modules)
    return in_layers or operation is whole_power or operation.name in PORTABLE_OPERATIONS


def _functions(operation: Primitive) -> list[Any]:
    rules = [*operation.vjps.values(), *([operation.joint] if operation.joint else [])]
    return [operation.function, *(rule.function for rule in rules), getattr(operation, "backward", operation.function)]


def _module(function: Any) -> str:
    return getattr(function, "__module__", None) or "numpy"  # old ufuncs do not say
