"""The operators and methods of a Tensor: each is the NumPy function of the same meaning, looked up in `RULES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

RULES: dict[Any, Callable[..., Any]] = {}
"""NumPy function or ufunc -> what is called in its place when an argument is a Tensor."""


class Operators:
    """What `Tensor` inherits so that `x @ w + b`, `x.sum(0)` and `x.T` mean what they mean for arrays."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __add__(self, other: Any) -> Any:
        return RULES[np.add](self, other)

    def __radd__(self, other: Any) -> Any:
        return RULES[np.add](other, self)

    def __sub__(self, other: Any) -> Any:
        return RULES[np.subtract](self, other)

    def __rsub__(self, other: Any) -> Any:
        return RULES[np.subtract](other, self)

    def __mul__(self, other: Any) -> Any:
        return RULES[np.multiply](self, other)

    def __rmul__(self, other: Any) -> Any:
        return RULES[np.multiply](other, self)

    def __truediv__(self, other: Any) -> Any:
        return RULES[np.true_divide](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return RULES[np.true_divide](other, self)

    def __pow__(self, other: Any) -> Any:
        return RULES[np.power](self, other)

    def __rpow__(self, other: Any) -> Any:
        return RULES[np.power](other, self)

    def __mod__(self, other: Any) -> Any:
        return RULES[np.remainder](self, other)

    def __rmod__(self, other: Any) -> Any:
        return RULES[np.remainder](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return RULES[np.floor_divide](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return RULES[np.floor_divide](other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __matmul__(self, other: Any) -> Any:
        return RULES[np.matmul](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return RULES[np.matmul](other, self)

    def __neg__(self) -> Any:
        return RULES[np.negative](self)

    def __pos__(self) -> Any:
        return RULES[np.positive](self)

    def __abs__(self) -> Any:
        return RULES[np.absolute](self)

    def __eq__(self, other: object) -> Any:
        return RULES[np.equal](self, other)

    def __ne__(self, other: object) -> Any:
        return RULES[np.not_equal](self, other)

    def __lt__(self, other: Any) -> Any:
        return RULES[np.less](self, other)

    def __le__(self, other: Any) -> Any:
        return RULES[np.less_equal](self, other)

    def __gt__(self, other: Any) -> Any:
        return RULES[np.greater](self, other)

    def __ge__(self, other: Any) -> Any:
        return RULES[np.greater_equal](self, other)

    # Methods: the function of the same name.

    @property
    def T(self) -> Any:
        return RULES[np.transpose](self)

    @property
    def mT(self) -> Any:
        return RULES[np.swapaxes](self, -1, -2)

    @property
    def real(self) -> Any:
        return RULES[np.real](self)

    @property
    def imag(self) -> Any:
        return RULES[np.imag](self)

    @property
    def flat(self) -> Any:
        return iter(RULES[np.ravel](self))

    def reshape(self, *shape: Any, order: Any = "C") -> Any:
        return RULES[np.reshape](self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes: Any) -> Any:
        return RULES[np.transpose](self, (axes[0] if len(axes) == 1 else axes) if axes else None)

    def flatten(self, order: Any = "C") -> Any:
        return RULES[np.copy](RULES[np.ravel](self, order))

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:
        return RULES[np.astype](self, dtype, copy=copy)

    def clip(self, min: Any = None, max: Any = None, **keywords: Any) -> Any:
        return RULES[np.clip](self, min, max, **keywords)

    def conj(self) -> Any:
        return RULES[np.conjugate](self)

    if TYPE_CHECKING:  # given by the loop below

        def __getattr__(self, name: str) -> Any: ...


def _forward_methods() -> None:
    """`t.sum(0)` is `np.sum(t, 0)`: one meaning for methods and functions."""
    names = (
        "all any argmax argmin argpartition argsort choose compress cumprod cumsum diagonal dot max mean min nonzero "
        "partition prod ravel repeat round searchsorted sort squeeze std sum swapaxes take trace var"
    )
    for name in names.split():
        function = getattr(np, name)

        def method(self: Operators, *args: Any, _function: Any = function, **keywords: Any) -> Any:
            return _function(self, *args, **keywords)

        method.__name__ = name
        method.__qualname__ = f"Tensor.{name}"
        method.__doc__ = f"`np.{name}` of this Tensor."
        setattr(Operators, name, method)


_forward_methods()
