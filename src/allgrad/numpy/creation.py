"""Arrays made of Tensors, in calls that NumPy does not hand to a Tensor.

`np.array([x, y])` of Tensors would lose their gradients (so it raises); `allgrad.numpy.array([x, y])` keeps them. Without a
Tensor among their arguments, these are NumPy's own functions, with one exception: `zeros`, `ones`, `empty` and `full` of
floating or complex numbers are Tensors, because such arrays are made to be written to, and `out[i] = t` works on a Tensor only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.containers import flatten
from allgrad.autodiff.tensor import RULES, Tensor
from allgrad.numpy.arguments import operand, refuse, value


def _has_tensor(*values: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in flatten(list(values))[0])


def array(object: Any, dtype: Any = None, *, copy: Any = True, ndmin: int = 0, **keywords: Any) -> Any:
    """`np.array`, also of nested lists and tuples that hold Tensors: a Tensor that depends on each of them.

    >>> import allgrad as ag
    >>> x = ag.tensor(3.0, requires_grad=True)
    >>> ag.numpy.array([[x, 1.0], [x * x, 2.0]]).sum().backward()
    >>> x.grad
    array(7.)
    """
    if not _has_tensor(object):
        return np.array(object, dtype=dtype, copy=copy, ndmin=ndmin, **keywords)
    refuse("np.array", **keywords)
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


def asarray(a: Any, dtype: Any = None, order: Any = None, *, device: Any = None, copy: Any = None) -> Any:
    """`np.asarray`; a Tensor stays the Tensor that it is, unless its dtype has to change or a copy is asked for."""
    if not _has_tensor(a):
        return np.asarray(a, dtype=dtype, order=order, device=device, copy=copy)
    made = array(a, dtype, copy=copy)
    if copy is False and made is not a:
        raise ValueError(f"asarray(copy=False): a copy is needed to make an array of dtype {made.dtype}.")
    return made


def asanyarray(a: Any, dtype: Any = None, order: Any = None) -> Any:
    """`np.asanyarray`; a Tensor stays the Tensor that it is."""
    return asarray(a, dtype, order) if _has_tensor(a) else np.asanyarray(a, dtype, order)


def _writable(x: Any) -> Any:
    return Tensor(x) if x.dtype.kind in "fc" else x


def zeros(shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None) -> Any:
    """`np.zeros`, as a Tensor that tracked values may be written to.

    >>> import allgrad as ag
    >>> def f(x):
    ...     out = ag.numpy.zeros(3)
    ...     out[0] = x * x
    ...     return out.sum()
    >>> ag.grad(f)(3.0)
    np.float64(6.0)
    """
    return _writable(np.zeros(shape, np.float64 if dtype is None else dtype, order, device=device))


def ones(shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None) -> Any:
    """`np.ones`, as a Tensor that tracked values may be written to."""
    return _writable(np.ones(shape, np.float64 if dtype is None else dtype, order, device=device))


def empty(shape: Any, dtype: Any = None, order: Any = "C", *, device: Any = None) -> Any:
    """`np.empty`, as a Tensor that tracked values may be written to."""
    return _writable(np.empty(shape, np.float64 if dtype is None else dtype, order, device=device))


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", *, device: Any = None) -> Any:
    """`np.full`; the gradient of a Tensor as `fill_value` is the sum over the entries that it fills."""
    if not isinstance(fill_value, Tensor):
        return _writable(np.full(shape, fill_value, dtype=dtype, order=order, device=device))
    if order != "C":
        raise ValueError(f"full() of a Tensor lays it out in C order; got order={order!r}.")
    return np.copy(np.broadcast_to(asarray(fill_value, dtype), shape))


def full_like(x: Any, fill_value: Any, dtype: Any = None, *, device: Any = None, **keywords: Any) -> Any:
    """`np.full_like`: the shape and (unless given) the dtype of `x`, filled with `fill_value`, which may be a Tensor."""
    function = RULES[np.full_like] if isinstance(fill_value, Tensor) else np.full_like
    return function(operand(x), fill_value, dtype, device=device, **keywords)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, *, device: Any = None) -> Any:
    """`np.arange`; with Tensors, start + step * (0, 1, 2, ...). `stop` only sets the number of entries, a constant."""
    if not _has_tensor(start, stop, step):
        start, stop = (0, start) if stop is None else (start, stop)
        return np.arange(start, stop, step, dtype=dtype, device=device)
    start, stop = (0, start) if stop is None else (start, stop)
    plain: list[Any] = [value(x) for x in (start, stop, step)]
    number = len(np.arange(*plain))
    made = start + step * np.arange(number)
    made = made if isinstance(made, Tensor) else Tensor(np.asarray(made))
    return made.astype(np.arange(*plain).dtype if dtype is None else dtype)
