"""NumPy's functions of functions, and its index tricks, for results that are Tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.tensor import RULES, Tensor
from allgrad.numpy.arguments import holds_tensor, operand

if TYPE_CHECKING:
    from collections.abc import Callable


def _stacked(results: list[Any], shape: tuple[int, ...]) -> Any:
    """The results of a scalar function, each a number or a tuple of numbers, as arrays of `shape`."""
    if isinstance(results[0], tuple):
        return tuple(_stacked(list(column), shape) for column in zip(*results, strict=True))
    made = np.stack([operand(r) for r in results])
    return np.reshape(made, shape + made.shape[1:])


class vectorize:  # noqa: N801
    """`np.vectorize`; with Tensors among the arguments, or as results, it calls the function on their entries.

    >>> import allgrad as ag
    >>> f = ag.numpy.vectorize(lambda x: x**2 if x > 0 else -x)
    >>> ag.grad(lambda v: f(v).sum())(ag.numpy.array([3.0, -1.0]))
    array([ 6., -1.])
    """

    def __init__(self, pyfunc: Callable[..., Any] | None = None, **options: Any) -> None:
        self.pyfunc = pyfunc
        self.options = options

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self.pyfunc is None:  # used as a decorator with options
            return vectorize(*args, **self.options)
        if not holds_tensor([*args, *keywords.values()]):
            return np.vectorize(self.pyfunc, **self.options)(*args, **keywords)
        if self.options.get("signature") or self.options.get("excluded"):
            raise NoRuleError(
                "vectorize(signature=..., excluded=...) is not differentiated; write a loop and np.stack."
            )
        arrays = np.broadcast_arrays(*(operand(a) for a in (*args, *keywords.values())))
        flat = [np.ravel(a) for a in arrays]
        if not flat[0].size:
            raise ValueError("vectorize of no entries cannot know the dtype of its result.")
        entries = zip(*flat, strict=True)
        n = len(args)
        results = [self.pyfunc(*e[:n], **dict(zip(keywords, e[n:], strict=True))) for e in entries]
        return _stacked(results, arrays[0].shape)


def frompyfunc(func: Callable[..., Any], /, nin: int, nout: int, **options: Any) -> Callable[..., Any]:
    """`np.frompyfunc`; with Tensors among the arguments, `vectorize(func)`."""
    plain, entrywise = np.frompyfunc(func, nin, nout, **options), vectorize(func)
    return lambda *args: entrywise(*args) if holds_tensor(args) else plain(*args)


def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """`np.apply_along_axis`, also for a function of plain rows whose result is a Tensor."""
    made = RULES[np.apply_along_axis](func1d, axis, arr, *args, **kwargs)
    tracked = made.node is not None or made.tangents is not None
    return made if tracked or isinstance(arr, Tensor) else made.value


class _Concatenator:
    """`np.r_` and `np.c_` with Tensors: slices, numbers and arrays along one axis."""

    def __init__(self, plain: Any, *, columns: bool) -> None:
        self.plain, self.columns = plain, columns

    def __getitem__(self, key: Any) -> Any:
        items = key if isinstance(key, tuple) else (key,)
        if not holds_tensor(list(items)):
            return self.plain[key]
        if any(isinstance(item, str) for item in items):
            raise NoRuleError("np.r_ with a directive is not differentiated; use np.concatenate or np.stack.")
        parts = [np.atleast_1d(np.r_[i] if isinstance(i, slice) else operand(i)) for i in items]
        if self.columns:
            parts = [p if p.ndim > 1 else np.expand_dims(p, 1) for p in parts]
        return np.concatenate(parts, axis=-1 if self.columns else 0)


r_ = _Concatenator(np.r_, columns=False)
c_ = _Concatenator(np.c_, columns=True)
