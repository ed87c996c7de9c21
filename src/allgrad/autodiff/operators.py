"""The operators and methods of a Tensor: each is the NumPy function of the same meaning, looked up in `RULES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

RULES: dict[Any, Any] = {}
"""NumPy function or ufunc -> what is called in its place when an argument is a Tensor. `allgrad.numpy` fills it.

Three entries have names: "getitem" and "setitem", which are x[key] and a copy of x in which x[key] is replaced, and "namespace".
"""


class Operators:
    """What `Tensor` inherits so that `x @ w + b`, `x.sum(0)` and `x.T` mean what they mean for arrays."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __neg__(self) -> Any:
        return RULES[np.negative](self)

    def __pos__(self) -> Any:
        return RULES[np.positive](self)

    def __abs__(self) -> Any:
        return RULES[np.absolute](self)

    def __invert__(self) -> Any:
        return RULES[np.invert](self)

    def __round__(self, digits: int = 0) -> Any:
        return RULES[np.round](self, digits)

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

    @real.setter
    def real(self, value: Any) -> None:
        self.real[...] = value

    @property
    def imag(self) -> Any:
        return RULES[np.imag](self)

    @imag.setter
    def imag(self, value: Any) -> None:
        self.imag[...] = value

    @property
    def flat(self) -> Any:
        return iter(RULES[np.ravel](self))

    def reshape(self, *shape: Any, order: Any = "C") -> Any:
        return RULES[np.reshape](self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes: Any) -> Any:
        given = axes[0] if len(axes) == 1 and not isinstance(axes[0], (int, np.integer)) else axes
        return RULES[np.transpose](self, given or None)

    def flatten(self, order: Any = "C") -> Any:
        return RULES[np.copy](RULES[np.ravel](self, order))

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:
        return RULES[np.astype](self, dtype, copy=copy)

    def clip(self, min: Any = None, max: Any = None, **keywords: Any) -> Any:
        return np.clip(self, min, max, **keywords)

    def conj(self) -> Any:
        return RULES[np.conjugate](self)

    # Methods that write, and return None as in NumPy.

    def sort(self, axis: Any = -1, **keywords: Any) -> None:
        """Sort this Tensor in place along an axis."""
        self[...] = RULES[np.sort](self, axis, **keywords)

    def partition(self, kth: Any, axis: Any = -1, **keywords: Any) -> None:
        """Partition this Tensor in place along an axis."""
        self[...] = RULES[np.partition](self, kth, axis, **keywords)

    def fill(self, value: Any) -> None:
        """Set every entry to `value`."""
        self[...] = value

    def put(self, indices: Any, values: Any, mode: Any = "raise") -> None:
        """`np.put` on this Tensor."""
        RULES[np.put](self, indices, values, mode=mode)

    if TYPE_CHECKING:  # given by the loops below

        def __getattr__(self, name: str) -> Any: ...

        def having(self, value: Any, node: Any, tangents: Any) -> Any: ...

        def __getitem__(self, key: Any) -> Any: ...

        def __setitem__(self, key: Any, value: Any) -> None: ...

        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        def __pow__(self, other: Any) -> Any: ...
        def __rpow__(self, other: Any) -> Any: ...
        def __mod__(self, other: Any) -> Any: ...
        def __rmod__(self, other: Any) -> Any: ...
        def __floordiv__(self, other: Any) -> Any: ...
        def __rfloordiv__(self, other: Any) -> Any: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __rmatmul__(self, other: Any) -> Any: ...
        def __lt__(self, other: Any) -> Any: ...
        def __le__(self, other: Any) -> Any: ...
        def __gt__(self, other: Any) -> Any: ...
        def __ge__(self, other: Any) -> Any: ...
        def __and__(self, other: Any) -> Any: ...
        def __or__(self, other: Any) -> Any: ...
        def __xor__(self, other: Any) -> Any: ...


_ARITHMETIC: dict[str, np.ufunc] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "matmul": np.matmul, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
}  # fmt: skip
_COMPARISONS: dict[str, np.ufunc] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
_SAME_NAME = (
    "all any argmax argmin argpartition argsort choose compress cumprod cumsum diagonal dot max mean min nonzero "
    "prod ravel repeat round searchsorted squeeze std sum swapaxes take trace var"
)


def _binary(ufunc: np.ufunc) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        try:
            return RULES[ufunc](self, other)
        except (TypeError, ValueError):
            if _declines_ufuncs(other):
                return NotImplemented
            raise

    return operator


def _reflected(ufunc: np.ufunc) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        try:
            return RULES[ufunc](other, self)
        except (TypeError, ValueError):
            if _declines_ufuncs(other):
                return NotImplemented
            raise

    return operator


def _declines_ufuncs(other: Any) -> bool:
    """Whether `other` (a pytest.approx, say) answers with its own operators, by NumPy's protocol for that."""
    return getattr(other, "__array_ufunc__", other) is None


def _in_place(ufunc: np.ufunc) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        if not self.value.ndim and self._storage is None:  # a scalar, which cannot change: the name gets a new one
            return RULES[ufunc](self, other)
        return ufunc(self, other, out=(self,))

    return operator


def _method(name: str) -> Callable[..., Any]:
    """`t.sum(0)` is `np.sum(t, 0)`: methods and functions mean the same."""
    function = getattr(np, name)

    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        return function(self, *args, **keywords)

    method.__doc__ = f"`np.{name}` of this Tensor."
    return method


def _define(name: str, function: Callable[..., Any]) -> None:
    function.__name__ = name
    function.__qualname__ = f"Tensor.{name}"
    setattr(Operators, name, function)


for _name, _ufunc in _ARITHMETIC.items():
    _define(f"__{_name}__", _binary(_ufunc))
    _define(f"__r{_name}__", _reflected(_ufunc))
    _define(f"__i{_name}__", _in_place(_ufunc))
for _name, _ufunc in _COMPARISONS.items():
    _define(f"__{_name}__", _binary(_ufunc))
for _name in _SAME_NAME.split():
    _define(_name, _method(_name))
