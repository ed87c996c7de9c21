"""Arrays from Tensors: what NumPy's protocols cannot catch, since it is not called on a Tensor itself.

`np.array([x, y])` of Tensors would lose their gradients (so it raises); `allgrad.numpy.array([x, y])` keeps them. Without a
Tensor among their arguments, these are NumPy's own functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.containers import flatten
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import operand, value


def _has_tensor(*values: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in flatten(list(values))[0])


def array(object: Any, dtype: Any = None, *, copy: bool = True, ndmin: int = 0) -> Any:
    """`np.array`, of nested lists and tuples with Tensors in them too: a Tensor that depends on each of them.

    >>> import allgrad as ag
    >>> x = ag.tensor(3.0, requires_grad=True)
    >>> ag.numpy.array([[x, 1.0], [x * x, 2.0]]).sum().backward()
    >>> x.grad
    array(7.)
    """
    if not _has_tensor(object):
        return np.array(object, dtype=dtype, copy=copy, ndmin=ndmin)
    made = _stacked(object)
    if dtype is not None and made.dtype != np.dtype(dtype):
        made = made.astype(dtype)
    elif copy and made is object:
        made = made.copy()
    return np.reshape(made, (1,) * (ndmin - made.ndim) + made.shape) if ndmin > made.ndim else made


def _stacked(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return np.stack([_stacked(item) for item in x]) if _has_tensor(x) else np.asarray(x)
    return operand(x)


def asarray(a: Any, dtype: Any = None) -> Any:
    """`np.asarray`; a Tensor stays the Tensor that it is, unless its dtype has to change."""
    return array(a, dtype, copy=False) if _has_tensor(a) else np.asarray(a, dtype=dtype)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> Any:
    """`np.full`; the gradient of a Tensor as `fill_value` is the sum over all entries that it filled (with broadcasting)."""
    if not isinstance(fill_value, Tensor):
        return np.full(shape, fill_value, dtype=dtype, order=order)
    if order != "C":
        raise ValueError(f"full() of a Tensor lays it out in C order; got order={order!r}.")
    return np.copy(np.broadcast_to(asarray(fill_value, dtype), shape))


def full_like(a: Any, fill_value: Any, dtype: Any = None) -> Any:
    """`np.full_like`: the shape and (unless given) the dtype of `a`, filled with `fill_value`, which may be a Tensor."""
    return full(np.shape(a), fill_value, a.dtype if dtype is None else dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
    """`np.arange`; with Tensors, start + step * (0, 1, 2, ...). Their number is a constant, and `stop` sets only that."""
    if not _has_tensor(start, stop, step):
        return np.arange(start, stop, step, dtype=dtype) if stop is not None else np.arange(0, start, step, dtype=dtype)
    start, stop = (0, start) if stop is None else (start, stop)
    plain: list[Any] = [value(x) for x in (start, stop, step)]
    number = len(np.arange(*plain))
    made = start + step * np.arange(number)
    made = made if isinstance(made, Tensor) else Tensor(np.asarray(made))
    return made.astype(np.arange(*plain).dtype if dtype is None else dtype)
