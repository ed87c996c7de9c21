"""`Tensor`: a value, its place on the tape, and NumPy's protocols. No mathematics lives here.

A Tensor is what NumPy's functions see in place of an array. Its four fields are the raw array, the node that recorded how
it came to be (None if nothing tracked went into it), its tangents by forward-mode level (None outside forward mode), and
the storage that it shares with views. NumPy hands every function called on it to `__array_ufunc__` or
`__array_function__`, which look the function up in `RULES`; `allgrad.numpy` fills that table. What the protocols cannot
see (`float(t)`, `np.asarray(t)`, `a[0] = t`) would drop the gradient without a word, so it raises while one is tracked.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from allgrad.autodiff.errors import AssignmentError, LostGradientError, NoRuleError, NotDifferentiableError
from allgrad.autodiff.node import Leaf, Node, Storage
from allgrad.autodiff.operators import RULES as RULES
from allgrad.autodiff.operators import Operators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


class Tensor(Operators):
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

    def __init__(self, value: Array, node: Node | None = None, tangents: dict[int, Any] | None = None) -> None:
        self.value = value
        self.node = node
        self.tangents = tangents
        self._storage: Storage | None = None

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
        return rule(*inputs, **keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        rule = RULES.get(function)
        if rule is None:
            name = f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)
            return _without_rule(name, function, args, keywords)
        return rule(*args, **keywords)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.node is not None or self.tangents is not None:
            _refuse(self, "become a NumPy array (np.asarray, a[i] = t, np.full, an rng or a math function)")
        return np.array(self.value, dtype=dtype, copy=copy)

    def __float__(self) -> float:
        return float(self._plain("float()"))

    def __int__(self) -> int:
        return int(self._plain("int()"))

    def __complex__(self) -> complex:
        return complex(self._plain("complex()"))

    def __index__(self) -> int:
        return self._plain("an index").__index__()

    def _plain(self, use: str) -> Array:
        if self.node is not None or self.tangents is not None:
            _refuse(self, f"be converted by {use}")
        return self.value

    def __round__(self, digits: int = 0) -> Any:
        return RULES[np.round](self, digits)

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
        kind = "" if self.dtype == np.float64 else f", dtype={self.dtype}"
        if isinstance(self.node, Leaf):
            return f"Tensor({body}{kind}, requires_grad=True)"
        made_by = f", from={self.node.plan.primitive.name}" if self.node is not None and self.node.plan else ""
        return f"Tensor({body}{kind}{made_by})"

    def __format__(self, spec: str) -> str:
        return format(self.value[()] if self.ndim == 0 else self.value, spec) if spec else str(self)

    # The tape.

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows through this Tensor."""
        return self.node is not None

    @property
    def is_leaf(self) -> bool:
        return isinstance(self.node, Leaf)

    @property
    def grad(self) -> Array | None:
        """The gradient that `.backward()` left on this leaf, or None; the array is the caller's to keep or change.

        For a bound leaf (`bind`) it is the memory that the leaf was bound to.
        """
        leaf = self.node
        return leaf.buffer if isinstance(leaf, Leaf) and leaf.filled else None

    def zero_grad(self) -> None:
        """Empty the gradient: the next `.backward()` writes it anew."""
        self._leaf("zero_grad").clear()

    def bind(self, *, value: Array | None = None, grad: Array | None = None) -> None:
        """Let this leaf live in given memory: its value is copied there, its gradients are written there.

        Both arrays have the leaf's shape and dtype, normally as views of a flat array. Backward writes the first
        contribution of a pass straight into `grad` (big products with `out=`), and adds the later ones.
        """
        leaf = self._leaf("bind")
        for what, memory in (("value", value), ("grad", grad)):
            if memory is not None and (memory.shape != self.shape or memory.dtype != self.dtype):
                raise ValueError(
                    f"bind({what}=...) needs an array of shape {self.shape} and dtype {self.dtype}, "
                    f"got {memory.shape} and {memory.dtype}."
                )
        if value is not None:
            np.copyto(value, self.value)
            self.value = value
            leaf.storage.version[0] += 1
        if grad is not None:
            if leaf.filled:
                np.copyto(grad, leaf.buffer)  # type: ignore[arg-type]
            leaf.buffer, leaf.bound = grad, True

    def assign(self, value: Any) -> None:
        """Overwrite a leaf's value in place, keeping memory and dtype. Graphs that saved it can no longer run backward."""
        self._leaf("assign")
        value = np.asarray(value)
        if value.shape != self.shape:
            raise ValueError(f"assign() needs an array of shape {self.shape}, got {value.shape}.")
        np.copyto(self.value, value, casting="same_kind")
        self.touch()

    def touch(self) -> None:
        """Say that the memory behind this leaf was written by other means (an optimizer, a broadcast)."""
        self._leaf("touch").storage.version[0] += 1

    def _leaf(self, call: str) -> Leaf:
        if not isinstance(self.node, Leaf):
            raise TypeError(f"{call}() is for leaves, made by ag.tensor(..., requires_grad=True); this is {self!r}.")
        return self.node

    def backward(self, cotangent: Any = None, retain_graph: bool = False) -> None:
        """Add the gradients of this Tensor to the `.grad` of every leaf that it depends on.

        Args:
            cotangent: what the gradients are scaled with, in this Tensor's shape; only a single number may go without.
            retain_graph: keep the graph, to call this again.

        Raises:
            NotDifferentiableError: nothing tracked went into this Tensor.
            CotangentError: the cotangent is missing or does not fit.
            GraphFreedError: an earlier backward has freed the graph.
            SavedArrayError: an array that an operation saved was overwritten.
        """
        from allgrad.autodiff.engine import backward

        backward(self, cotangent, retain_graph)

    def detach(self) -> Tensor:
        """The same numbers without a history. Those of a leaf are copied, since its memory will be written."""
        if self.tangents is None and self.node is None:
            return self
        return Tensor(self.value.copy() if self.is_leaf else self.value)

    def numpy(self) -> Array:
        """The numbers as a NumPy array that cannot be written: the tape may need them."""
        view = self.value.view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The one number in this Tensor, as a Python number."""
        return self.value.item()

    def tolist(self) -> Any:
        return self.value.tolist()

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
        """Give this Tensor's place on the tape a name, for graphs and messages; returns the Tensor itself."""
        if self.node is not None:
            self.node.origin = name
        return self

    # Items.

    def __getitem__(self, key: Any) -> Any:
        return RULES["getitem"](self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """A functional update: this Tensor becomes a new one in which the items are replaced."""
        if self.is_leaf:
            raise AssignmentError(
                "x[i] = v on a leaf would change an input after the fact. Write `y = x.copy(); y[i] = v`, "
                "or x.assign(array) to give the leaf new contents."
            )
        if self._storage is not None and sys.getrefcount(self._storage) > 2:
            raise AssignmentError(
                "x[i] = v while another Tensor is a view of x: NumPy would change the view too, and the tape cannot. "
                "Take a copy of the view (`y = x[...].copy()`), drop it, or write `x = x.copy()` first."
            )
        new = RULES["setitem"](self, key, value)
        self.value, self.node, self.tangents, self._storage = new.value, new.node, new.tangents, None

    def __copy__(self) -> Any:
        return self.copy()

    def copy(self) -> Any:
        return RULES[np.copy](self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self.node is not None and not self.is_leaf:
            raise LostGradientError("A Tensor with a history cannot be deep-copied; write .copy(), or .detach() first.")
        return tensor(self.value, requires_grad=self.is_leaf)

    def __reduce__(self) -> NoReturn:
        raise TypeError("Tensors are not pickled. Save `t.numpy()` with np.save or safetensors.")


def tensor(value: Any, dtype: Any = None, *, requires_grad: bool = False, copy: bool = True) -> Tensor:
    """Make a Tensor of numbers.

    Args:
        value: an array, a number or nested lists of numbers; copied, so that a later write to it changes nothing here.
        dtype: as in `np.array`.
        requires_grad: whether `.backward()` collects a gradient for it; needs a real or complex floating dtype.
        copy: False hands `value` over: nobody may write to it as long as the Tensor is in use.

    >>> import allgrad as ag
    >>> ag.tensor([1.0, 2.0], requires_grad=True)
    Tensor([1., 2.], requires_grad=True)
    """
    if isinstance(value, Tensor):
        value = value._plain("ag.tensor()")
    array = np.array(value, dtype=dtype) if copy else np.asarray(value, dtype=dtype)
    if not requires_grad:
        return Tensor(array)
    if array.dtype.kind not in "fc":
        raise NotDifferentiableError(
            f"requires_grad=True needs a floating or complex dtype, got {array.dtype}; "
            "integers and booleans are constants. Write 1.0 for 1, or pass dtype=float."
        )
    leaf = Leaf(array.shape, array.dtype)
    made = Tensor(array, leaf)
    made._storage = leaf.storage
    return made


def _refuse(t: Tensor, use: str) -> NoReturn:
    raise LostGradientError(
        f"A tracked Tensor of shape {t.shape} cannot {use}: its gradient would be lost. "
        "Use NumPy's functions on the Tensor (np.sin(t), not math.sin(t); np.stack or ag.numpy.array for lists of Tensors), "
        "or say that no gradient is wanted with t.detach()."
    )


def _load_scipy_rules() -> bool:
    """Import the rules of SciPy's ufuncs, if SciPy is in use and they are not imported yet; returns whether it did."""
    if "scipy.special" not in sys.modules or "allgrad.scipy.special" in sys.modules:
        return False
    importlib.import_module("allgrad.scipy.special")
    return True


def _without_rule(name: str, function: Callable[..., Any], args: Any, keywords: Any) -> Any:
    """Functions without a rule: plain NumPy as long as nothing tracked goes in, an error that names them otherwise."""
    from allgrad.autodiff.containers import map_tensors

    def plain(t: Tensor) -> Array:
        if t.node is not None or t.tangents is not None:
            raise NoRuleError(
                f"{name} has no derivative rule, and a tracked Tensor of shape {t.shape} was passed to it. "
                "Declare one with ag.primitive or ag.custom_vjp, or pass t.detach(); "
                "allgrad.numpy.coverage() lists what is differentiated."
            )
        return t.value

    return function(*map_tensors(plain, args), **map_tensors(plain, keywords))
