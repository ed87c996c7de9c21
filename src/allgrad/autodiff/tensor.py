"""`Tensor`: a value, its place on the tape, and NumPy's protocols. There is no mathematics here.

A Tensor is what NumPy's functions see in place of an array. Its four fields are the raw array, the node that recorded how it was
computed (None if nothing tracked went into it), its tangents by forward-mode level (None outside forward mode), and how it shares
memory with other Tensors (None if it does not; see aliases.py). NumPy hands every function called on a Tensor to
`__array_ufunc__` or `__array_function__`, which look the function up in `RULES`; `allgrad.numpy` fills that table. The
protocols cannot see `float(t)`, `np.asarray(t)` and `a[0] = t`, which would drop the gradient without a word, so these raise
while one is tracked.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from allgrad.autodiff import engine
from allgrad.autodiff.aliases import leaf_behind, write
from allgrad.autodiff.containers import flatten, map_tensors
from allgrad.autodiff.cotangents import first_cotangent
from allgrad.autodiff.errors import LostGradientError, NoRuleError, NotDifferentiableError
from allgrad.autodiff.leaves import OfLeaves
from allgrad.autodiff.modes import CURRENT
from allgrad.autodiff.node import Leaf, Node, Storage
from allgrad.autodiff.operators import RULES as RULES
from allgrad.autodiff.operators import Operators
from allgrad.autodiff.standard import Standard
from allgrad.autodiff.tensor_html import tensor_html

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


class Tensor(Operators, Standard, OfLeaves):
    """An n-dimensional array that knows where it came from.

    Made by `allgrad.tensor` and by operations on other Tensors; use NumPy on it as on an array.

    >>> import numpy as np, allgrad as ag
    >>> x = ag.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> loss = np.sum(np.sin(x) ** 2)
    >>> loss.backward()
    >>> np.allclose(x.grad, np.sin(2 * np.array([1.0, 2.0, 3.0])))
    True
    """

    __slots__ = ("__weakref__", "_storage", "node", "tangents", "value")
    __array_priority__ = 1000.0
    value: Array

    def __init__(self, value: Array, node: Node | None = None, tangents: dict[int, Any] | None = None) -> None:
        self.value = value
        self.node = node
        self.tangents = tangents
        self._storage: Storage | None = None

    def having(self, value: Array, node: Node | None, tangents: dict[int, Any] | None) -> Tensor:
        """A Tensor with these fields, for files that cannot import this one."""
        return Tensor(value, node, tangents)

    # What NumPy asks of an array.

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def nbytes(self) -> int:
        return self.value.nbytes

    @property
    def itemsize(self) -> int:
        return self.value.itemsize

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        key = ufunc if method == "__call__" else (ufunc, method)
        rule = RULES.get(key)
        if rule is None and _load_scipy_rules():
            rule = RULES.get(key)
        if rule is None:
            name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
            return _without_rule(name, getattr(ufunc, method), inputs, keywords)
        if keywords and "out" in keywords:
            where = keywords.get("where", True) if method == "__call__" else True
            return _into(keywords.pop("out"), f"np.{ufunc.__name__}(out=...)", rule, inputs, keywords, where)
        return rule(*inputs, **keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        rule = RULES.get(function)
        if rule is None:
            return _without_rule(_name_of(function), function, args, keywords)
        if keywords and keywords.get("out") is not None:
            keywords = dict(keywords)
            out = keywords.pop("out")
            return _into(
                out if isinstance(out, tuple) else (out,), f"{_name_of(function)}(out=...)", rule, args, keywords
            )
        return rule(*args, **keywords)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The numbers: a copy, or a view that cannot be written, because the tape may need them."""
        self._plain("become a NumPy array (np.asarray, a[i] = t, np.full, an rng or a math function)")
        made = np.array(self.value, dtype=dtype, copy=copy)
        if made is self.value:
            made = made.view()
            made.flags.writeable = False
        return made

    def __float__(self) -> float:
        return float(self._plain("be converted by float()"))

    def __int__(self) -> int:
        return int(self._plain("be converted by int()"))

    def __complex__(self) -> complex:
        return complex(self._plain("be converted by complex()"))

    def __index__(self) -> int:
        return self._plain("be an index").__index__()

    def _plain(self, use: str) -> Array:
        """The raw array, or an error if a gradient or tangent would be lost."""
        if self.node is not None or self.tangents is not None:
            raise LostGradientError(
                f"A tracked Tensor of shape {self.shape} cannot {use}: its gradient would be lost. Use NumPy's functions on "
                "the Tensor (np.sin(t), not math.sin(t)). To write it into an array, make that array a Tensor: "
                "a = np.zeros_like(t, shape=...) or a = ag.tensor(a), then a[i] = t; or ag.numpy.array([t, ...]). "
                "If no gradient is wanted, write t.detach(), or t.item() for a number to print."
            )
        return self.value

    def __bool__(self) -> bool:  # control flow, which has no derivative
        return bool(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d Tensor")
        return (self[i] for i in range(len(self)))

    def __contains__(self, item: Any) -> bool:
        return bool(np.any(self == item))

    def __repr__(self) -> str:
        body = np.array2string(self.value, separator=", ", prefix="Tensor(")
        kind = "" if self.dtype == np.float64 else f"dtype={self.dtype}"
        return f"Tensor({', '.join(part for part in (body, kind, self._origin()) if part)})"

    def _repr_html_(self) -> str:
        return tensor_html(self.value, self._origin())

    def _origin(self) -> str:
        """How it became tracked, as its repr says it; "" if it is not."""
        if isinstance(self.node, Leaf):
            return "requires_grad=True"
        return f"from={self.node.plan.name}" if self.node is not None and self.node.plan else ""

    def __format__(self, spec: str) -> str:
        return format(self.value[()] if self.ndim == 0 else self.value, spec) if spec else str(self)

    # The tape.

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows through this Tensor."""
        return self.node is not None

    def backward(self, cotangent: Any = None, retain_graph: bool = False) -> None:
        """Add the gradients of this Tensor to the `.grad` of every leaf that it depends on.

        Args:
            cotangent: what the gradients are scaled with, in this Tensor's shape; only a single number may go without.
            retain_graph: keep the graph, to call this again.

        Raises:
            NotDifferentiableError: nothing tracked went into this Tensor.
            CotangentError: the cotangent is missing or does not fit.
            GraphFreedError: an earlier backward has freed the graph.
            SavedArrayError: a leaf that an operation saved has been written since.
        """
        if self.node is None:
            raise NotDifferentiableError(
                f"backward() was called on a Tensor of shape {self.shape} that no gradient flows through: none of its inputs "
                "has requires_grad=True, or it was computed under no_grad() or by a function whose derivative is zero."
            )
        if self.tangents is not None:
            raise LostGradientError("backward() inside jvp would drop the tangents; use ag.grad or ag.vjp there.")
        g = first_cotangent(self, cotangent)
        if isinstance(g, Tensor):
            g = g._plain("be the cotangent of backward(); use ag.vjp for that")
        engine.backward(self.node, g, keep=retain_graph)

    def detach(self) -> Tensor:
        """The same numbers without a history; writing to either changes nothing in the other."""
        if self.tangents is None and self.node is None and self._storage is None:
            return self
        return Tensor(self.value.copy() if leaf_behind(self) is not None else self.value)

    def numpy(self) -> Array:
        """The numbers as a NumPy array that cannot be written: the tape may need them."""
        view = self.value.view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The one number in this Tensor, as a Python number, without a history: `print(loss.item())`.

        Raises:
            LostGradientError: inside a transform (grad, vjp, jvp, ...), where the gradient would be lost.
        """
        return self._to_print("item()").item()

    def tolist(self) -> Any:
        """The numbers as nested lists of Python numbers, without a history.

        Raises:
            LostGradientError: inside a transform, as `item`.
        """
        return self._to_print("tolist()").tolist()

    def _to_print(self, call: str) -> Array:
        modes = CURRENT.get()
        if modes.reverse or modes.forward or self.tangents is not None:
            self._plain(f"become Python numbers by {call} inside a transform")
        return self.value

    def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Call `hook(cotangent)` when this Tensor's cotangent is complete in a backward pass; what it returns, if not None,
        takes its place. Returns a function that removes the hook.
        """
        if self.node is None:
            raise NotDifferentiableError("register_hook() needs a Tensor that a gradient flows through.")
        hooks = self.node.hooks
        if hooks is None:
            hooks = self.node.hooks = []
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def named(self, name: str) -> Tensor:
        """Name this Tensor's place on the tape, for graphs and messages; returns the Tensor itself."""
        if self.node is not None:
            self.node.origin = name
        return self

    # Items.

    def __getitem__(self, key: Any) -> Any:
        return RULES["getitem"](self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write as NumPy does: this Tensor, what it is a view of, and their views change. See aliases.py."""
        if self._storage is None and (self.node is None or CURRENT.get().recording):
            new = RULES["setitem"](self, key, value)
            self.value, self.node, self.tangents = new.value, new.node, new.tangents
        else:
            bare = self.detach() if self.is_leaf else Tensor(self.value, self.node, self.tangents)
            write(self, RULES["setitem"](bare, key, value), "x[i] = v")

    def __copy__(self) -> Any:
        return self.copy()

    def copy(self, order: Any = "C") -> Any:
        return RULES[np.copy](self, order)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A new leaf for a leaf; for any other Tensor a copy that depends on it."""
        return tensor(self.value, requires_grad=True) if self.is_leaf else self.copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("Tensors are not pickled. Save `t.numpy()` with np.save or safetensors.")


def tensor(value: Any, dtype: Any = None, *, requires_grad: bool = False, copy: bool = True) -> Tensor:
    """Make a Tensor of numbers.

    Args:
        value: an array, a number or nested lists of numbers; copied, so that a later write to it changes nothing here.
        dtype: as in `np.array`.
        requires_grad: whether `.backward()` collects a gradient for it; needs a real or complex floating dtype.
        copy: False hands `value` over without a copy: nobody may write to it as long as the Tensor is in use.

    >>> import allgrad as ag
    >>> ag.tensor([1.0, 2.0], requires_grad=True)
    Tensor([1., 2.], requires_grad=True)
    """
    if isinstance(value, Tensor):
        value = value._plain("be given to ag.tensor()")
    array = np.array(value, dtype=dtype) if copy else np.asarray(value, dtype=dtype)
    if not requires_grad:
        made = Tensor(array)
        if not array.ndim:
            made._storage = Storage()  # an array of rank 0, which `+=` changes, and not a scalar
        return made
    if array.dtype.kind not in "fc":
        raise NotDifferentiableError(
            f"requires_grad=True needs a floating or complex dtype, got {array.dtype}; integers and booleans are constants. "
            "Pass dtype=float."
        )
    leaf = Leaf(array.shape, array.dtype)
    made = Tensor(array, leaf)
    made._storage = leaf.storage
    return made


def is_tracked(x: Any) -> bool:
    """Whether x is a Tensor with a history or tangents."""
    return isinstance(x, Tensor) and (x.node is not None or x.tangents is not None)


def _into(
    outs: tuple[Any, ...], name: str, rule: Callable[..., Any], args: Any, keywords: dict[str, Any], where: Any = True
) -> Any:
    """Call `rule` and write its results into `outs` (where `where` is true), as NumPy does for `out=`."""
    results = rule(*args, **keywords)
    made = results if isinstance(results, tuple) else (results,)
    for out, result in zip(outs, made, strict=True):
        if isinstance(out, Tensor):
            write(out, result if where is True else np.where(where, result, out), name)
        elif out is not None:
            if any(is_tracked(x) for x in flatten([result, *args])[0]):
                raise NoRuleError(
                    f"{name}: a plain array cannot take the values of a tracked Tensor, because their gradient would be lost. "
                    "Make the array a Tensor first (a = ag.tensor(a)), or write a = a + t instead of a += t."
                )
            np.copyto(out, getattr(result, "value", result), casting="same_kind", where=getattr(where, "value", where))
    filled = tuple(result if out is None else out for out, result in zip(outs, made, strict=True))
    return filled if isinstance(results, tuple) else filled[0]


def _name_of(function: Any) -> str:
    module = getattr(function, "__module__", None) or ""
    return f"{module}.{function.__name__}".replace("numpy", "np", 1)


def _load_scipy_rules() -> bool:
    """Import the rules of SciPy's ufuncs, if SciPy is in use and they are not imported yet; returns whether it did."""
    if "scipy.special" not in sys.modules or "allgrad.scipy.special" in sys.modules:
        return False
    importlib.import_module("allgrad.scipy.special")
    return True


def _without_rule(name: str, function: Callable[..., Any], args: Any, keywords: Any) -> Any:
    """Functions without a rule: plain NumPy as long as nothing tracked goes in, an error that names them otherwise."""

    def plain(t: Tensor) -> Array:
        if is_tracked(t):
            raise NoRuleError(
                f"{name} has no derivative rule, and a tracked Tensor of shape {t.shape} was passed to it. "
                "Declare one with ag.Primitive or ag.custom_vjp, or pass t.detach(); "
                "allgrad.numpy.coverage() lists what is differentiated."
            )
        return t.numpy()

    return function(*map_tensors(plain, args), **map_tensors(plain, keywords))
