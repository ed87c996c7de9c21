"""How rules read their arguments: plain values, operands, axes, masks, and keywords that no rule honours."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.saved import keep
from allgrad.autodiff.tensor import Tensor

UNSET = np._NoValue


def value(x: Any) -> Any:
    """The plain array in a Tensor; anything else as it is."""
    return x.value if isinstance(x, Tensor) else x


def operand(x: Any) -> Any:
    """A Tensor or an array as it is, anything else as NumPy would convert it; lists that hold Tensors are stacked."""
    if isinstance(x, Tensor) or type(x) is np.ndarray:
        return x
    if isinstance(x, (list, tuple)) and holds_tensor(x):
        return np.stack([operand(item) for item in x])
    if isinstance(x, np.ma.MaskedArray):
        raise NoRuleError(
            "Masked arrays do not mix with Tensors: the derivative would ignore the mask. "
            "Write np.where(m.mask, 0.0, t * m.filled(0.0)), or pass where=~m.mask."
        )
    return np.asarray(x)


def holds_tensor(x: Any) -> bool:
    """Whether a Tensor is in a nest of lists and tuples."""
    return isinstance(x, Tensor) or (isinstance(x, (list, tuple)) and any(map(holds_tensor, x)))


def as_tensor(x: Any) -> Tensor:
    """Like `operand`, but always a Tensor. A plain array becomes an untracked one, with a copy that its owner cannot write."""
    made = operand(x)
    if isinstance(made, Tensor):
        return made
    return Tensor(keep(made) if made is x else made)


def weak(x: Any) -> Any:
    """Like `operand`, but a Python number stays one, so that it promotes nothing."""
    return x if type(x) in (int, float, complex) else operand(x)


def common(*xs: Any) -> list[Any]:
    """Operands in their common dtype, for which Python numbers are weak, as NumPy has it."""
    xs = tuple(map(weak, xs))
    dtype = np.result_type(*(getattr(x, "dtype", x) for x in xs))
    return [cast(x, dtype) for x in xs]


def cast(x: Any, dtype: Any) -> Any:
    """`x` in a dtype, as it is if it has that already."""
    if isinstance(x, Tensor):
        return x if x.dtype == dtype else x.astype(dtype)
    return np.asarray(x, dtype)


def is_complex(x: Any) -> bool:
    return bool(np.iscomplexobj(value(x)))


def conjugate(x: Any) -> Any:
    """The complex conjugate; real arrays pass without an operation."""
    return np.conjugate(x) if x.dtype.kind == "c" else x


def real(x: Any) -> Any:
    """The real part; real arrays pass without an operation."""
    return np.real(x) if x.dtype.kind == "c" else x


def mask(condition: Any) -> np.ndarray[Any, Any]:
    """A condition as a plain array of booleans."""
    return np.asarray(value(condition), dtype=bool)


def given(x: Any) -> bool:
    """Whether an optional argument was passed."""
    return x is not None and x is not UNSET


def kept(keepdims: Any) -> bool:
    return keepdims is not UNSET and bool(keepdims)


def axis_of(i: Any, ndim: int, name: str) -> int:
    """An axis counted from 0, or NumPy's own error."""
    i = int(i)
    if not -ndim <= i < ndim:
        raise np.exceptions.AxisError(i, ndim, name)
    return int(i % ndim)


def axes_of(axes: Any, ndim: int, name: str) -> tuple[int, ...]:
    """One axis or several as a tuple of different axes counted from 0."""
    found = tuple(axis_of(i, ndim, name) for i in (axes if isinstance(axes, (tuple, list)) else (axes,)))
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: an axis appears twice in {axes!r}.")
    return found


def refuse(name: str, **keywords: Any) -> None:
    """Raise for keywords that no rule honours; None and NumPy's own "not given" pass."""
    for keyword, x in keywords.items():
        if given(x):
            remedy = "use the returned value" if keyword == "out" else "leave it out"
            raise NoRuleError(f"{name}({keyword}=...) is not differentiated; {remedy}, or pass .detach()ed Tensors.")
