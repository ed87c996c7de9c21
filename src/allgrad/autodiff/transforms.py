"""Functions in, functions out: grad, vjp and jvp.

They differentiate functions of arrays, numbers, and nested dicts, lists and tuples of them. Given plain NumPy they return plain
NumPy; inside another transform they return Tensors, so that they nest in any mix and to any order. The arguments that a function
gets are its own: it may write to them, and the caller's arrays stay as they are. What comes back belongs to the caller.

Convention for complex numbers (JAX's): for real-valued f of z = x + iy, `grad` gives df/dx - i df/dy; step against the
*conjugate* to descend. A vjp is the transpose of the jvp, without conjugation.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.containers import flatten, map_tensors
from allgrad.autodiff.cotangents import first_cotangent
from allgrad.autodiff.engine import CLOSED, captured, pull
from allgrad.autodiff.errors import CotangentError, NotDifferentiableError
from allgrad.autodiff.forward import below, fit_tangent, strip
from allgrad.autodiff.inner import inner_leaf, keep_version
from allgrad.autodiff.modes import CURRENT, switched
from allgrad.autodiff.node import SEQUENCE, Leaf, Node
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.zeros import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Inputs:
    """Fresh inner leaves for (some of) a function's arguments, linked to what they are outside."""

    def __init__(self, args: Sequence[Any], argnums: int | Sequence[int], caller: str) -> None:
        self.chosen = Chosen(args, argnums, caller)
        self.outer = self.chosen.leaves
        self.linked = any(isinstance(x, Tensor) and x.node is not None for x in self.outer)
        # A plain array is copied, so that later writes to it change nothing here, and writes here nothing there.
        inner = [inner_leaf(x if isinstance(x, Tensor) else Tensor(x.copy())) for x in self.outer]
        self.nodes: list[Node] = [t.node for t in inner if t.node is not None]
        self.args = self.chosen.put(inner)

    def zeros(self, k: int) -> Any:
        return np.zeros(self.outer[k].shape, self.outer[k].dtype)

    def finish(self, parts: Sequence[Any]) -> list[Any]:
        """Gradients as the caller gets them: fresh arrays, or Tensors where something outside is tracked."""
        return [self.zeros(k) if p is None else self._finish(p) for k, p in enumerate(parts)]

    def _finish(self, gradient: Any) -> Any:
        if isinstance(gradient, Tensor):
            if gradient.node is not None or gradient.tangents is not None:
                return gradient
            gradient = gradient.value
        made = np.array(gradient)
        return Tensor(made) if any(isinstance(o, Tensor) for o in self.outer) else made[()]

    def outside(self, x: Any) -> Any:
        """A result as it leaves the transform: a Tensor if something outside is tracked through it, else a fresh array."""
        if not isinstance(x, Tensor):
            return x
        if CURRENT.get().recording and (self.linked or captured([x], self.nodes)):
            return x
        return self.untracked(x)

    def untracked(self, x: Tensor) -> Any:
        """A result through which nothing outside is tracked, in reverse mode at least."""
        if x.tangents is not None or any(isinstance(o, Tensor) for o in self.outer):
            return Tensor(x.value, None, x.tangents)
        return x.value.copy()[()]

    def close(self) -> None:
        """The transform is over: unlinked inner leaves want no gradient from a walk further out."""
        for node in self.nodes:
            if not node.parents:
                node.plan, node.origin = None, CLOSED


class Chosen:
    """The arguments of a call that are differentiated, as a flat list of arrays.

    Args:
        argnums: an int, or a sequence of them, as users give it.
        caller: the transform's name, for messages.
    """

    def __init__(self, args: Sequence[Any], argnums: int | Sequence[int], caller: str) -> None:
        self.args = args
        self.single = isinstance(argnums, int)
        self.argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        for i in self.argnums:
            if not -len(args) <= i < len(args):
                raise ValueError(
                    f"{caller}: argnums={argnums!r}, but the function was called with {len(args)} arguments."
                )
        given, self.build = flatten([args[i] for i in self.argnums])
        self.leaves = [floating(x, caller) for x in given]

    def put(self, leaves: Sequence[Any]) -> list[Any]:
        """All arguments of the call, with `leaves` in place of those that were chosen."""
        args = list(self.args)
        for i, x in zip(self.argnums, self.build(list(leaves)), strict=True):
            args[i] = x
        return args

    def assemble(self, values: Sequence[Any]) -> Any:
        """One value for each leaf, in the structure of the arguments that were chosen."""
        built = self.build(list(values))
        return built[0] if self.single else tuple(built)


def floating(x: Any, caller: str) -> Any:
    """An argument that is differentiated, as an array or Tensor."""
    array = x if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype.kind in "iub":
        what = f"{array.dtype} of shape {array.shape}" if array.shape else f"{array.dtype} ({x!r})"
        raise NotDifferentiableError(
            f"{caller} needs floating or complex arguments to differentiate, got {what}. "
            f"Convert it ({'x.astype(float)' if array.shape else 'write 3.0 for 3'}), or choose other arguments with argnums."
        )
    if array.dtype.kind not in "fc":
        raise NotDifferentiableError(
            f"{caller} needs arguments made of floating or complex arrays, numbers, and dicts, lists and tuples of them; "
            f"got {type(x).__name__}. Choose other arguments with argnums."
        )
    return array


def split(out: Any, has_aux: bool, caller: str) -> tuple[Any, Any]:
    """What f returned, as (value, aux)."""
    if not has_aux:
        return out, None
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise NotDifferentiableError(
            f"{caller}(has_aux=True): the function must return (value, aux); it returned {_what(out)}."
        )
    return out[0], out[1]


def results_of(value: Any, caller: str) -> tuple[list[Tensor], Callable[[list[Any]], Any]]:
    """The arrays that f returned, as Tensors, at least one of them with a derivative."""
    leaves, build = flatten(value)
    tensors = [y if isinstance(y, Tensor) else Tensor(np.asarray(y)) for y in leaves]
    for y, given in zip(tensors, leaves, strict=True):
        if y.dtype.kind not in "fciub":
            raise NotDifferentiableError(f"{caller}: the function must return numbers; it returned {_what(given)}.")
    if not any(y.dtype.kind in "fc" for y in tensors):
        raise NotDifferentiableError(
            f"{caller}: the function must return floating or complex numbers; it returned {_what(value)}, "
            "which has no derivative."
        )
    return tensors, build


def _what(value: Any) -> str:
    if value is None:
        return "None (is there a `return`?)"
    dtype = getattr(value, "dtype", None)
    return f"{type(value).__name__}" if dtype is None else f"an array of {dtype}, shape {value.shape}"


def _one_number(y: Any) -> Tensor:
    """The result of a function that `grad` differentiates."""
    if isinstance(y, Tensor) and y.dtype.kind == "f":
        return y
    if isinstance(y, (dict, list, tuple)) or y is None:
        hint = " Use has_aux=True if it returns (loss, more)." if isinstance(y, (list, tuple)) else ""
        raise NotDifferentiableError(
            f"grad needs a function that returns a single real number; it returned {_what(y)}.{hint}"
        )
    tensor = results_of(y, "grad")[0][0]
    if tensor.dtype.kind == "c":
        raise NotDifferentiableError("grad needs a real result, got a complex one. Take its real part, or use ag.vjp.")
    return tensor


def reverse() -> switched:
    """The modes in which a reverse-mode transform calls its function."""
    return switched(recording=True, reverse=CURRENT.get().reverse + 1)


def vjp(f: Callable[..., Any], *args: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of f at `args`, and the function that pulls a cotangent of it back to cotangents of the arguments.

    Returns:
        (f(*args), pullback): pullback takes a cotangent with the structure of the value and returns a tuple
        with the cotangent of each argument. It may be called more than once. With `has_aux`, f returns (value, aux), and
        aux comes third.

    Raises:
        NotDifferentiableError: an argument or the value is not made of floating or complex arrays.
        CotangentError: from pullback, if a cotangent does not fit the value.

    >>> import numpy as np, allgrad as ag
    >>> y, pullback = ag.vjp(np.sin, 0.0)
    >>> float(y), [float(c) for c in pullback(2.0)]
    (0.0, [2.0])
    """
    inputs = _Inputs(args, tuple(range(len(args))), "vjp")
    with reverse():
        out = f(*inputs.args)
    value, aux = split(out, has_aux, "vjp")
    found, build = results_of(value, "vjp")
    # What f returned may be written later; the pullback's places on the tape may not move.
    results = [Tensor(y.value, y.node, y.tangents) for y in found]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given, _ = flatten(cotangent)
        if len(given) != len(results):
            raise CotangentError(f"The pullback needs {len(results)} arrays, nested as the value is; got {len(given)}.")
        seeds = [first_cotangent(y, c) for y, c in zip(results, given, strict=True)]
        parts, _ = pull(results, seeds, inputs.nodes, linked=inputs.linked, keep=True)
        return tuple(inputs.chosen.build(inputs.finish(parts)))

    made = build([inputs.outside(y) for y in found])
    return (made, pullback, map_tensors(inputs.outside, aux)) if has_aux else (made, pullback)


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns f's value and its gradient.

    Args:
        f: returns a single real number, or (number, aux) with `has_aux`. (Complex arguments are fine.)
        argnums: which arguments to differentiate; an int gives the gradient itself, a sequence a tuple of them.

    Raises:
        NotDifferentiableError: an argument or the result has no gradient: integers, a dict, None, a complex result.
        CotangentError: the result is not a single number.

    >>> import numpy as np, allgrad as ag
    >>> value, gradient = ag.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, array([2., 4.]))
    """

    @wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> tuple[Any, Any]:
        inputs = _Inputs(args, argnums, "grad")
        with reverse():
            out = f(*inputs.args, **keywords)
        value, aux = split(out, has_aux, "grad")
        y = _one_number(value)
        aux = map_tensors(inputs.outside, aux)
        parts, tracked = pull([y], [first_cotangent(y, None)], inputs.nodes, linked=inputs.linked)
        value = inputs.outside(y) if tracked else inputs.untracked(y)
        gradients = inputs.finish(parts)
        inputs.close()
        return (value, aux) if has_aux else value, inputs.chosen.assemble(gradients)

    return wrapped


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of f, a function with a single real result; see `value_and_grad`.

    With `has_aux` it returns (gradient, aux).

    >>> import numpy as np, allgrad as ag
    >>> ag.grad(np.tanh)(0.0)
    np.float64(1.0)
    >>> ag.grad(ag.grad(lambda x: x**3))(2.0)
    np.float64(12.0)
    """
    both = value_and_grad(f, argnums, has_aux=has_aux)

    @wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        value, gradient = both(*args, **keywords)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False) -> Any:
    """The value of f at `primals`, and its derivative in the direction of `tangents`, in one forward pass.

    Args:
        primals: the arguments of f, nested as they are.
        tangents: as many, with the same structure, shapes and kinds.

    Returns:
        (value, tangent), or (value, tangent, aux) with `has_aux`.

    Raises:
        NotDifferentiableError: an argument or the value is not made of floating or complex arrays.
        CotangentError: a tangent does not fit its primal.

    >>> import numpy as np, allgrad as ag
    >>> y, dy = ag.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    >>> float(y), float(dy)
    (6.0, 3.0)
    """
    if not isinstance(primals, (list, tuple)) or not isinstance(tangents, (list, tuple)):
        raise TypeError("jvp(f, primals, tangents): both must be tuples, one entry for each argument of f.")
    xs, build = flatten(list(primals))
    ts, _ = flatten(list(tangents))
    if len(xs) != len(ts):
        raise CotangentError(f"jvp needs a tangent for each primal: {len(xs)} arrays against {len(ts)}.")
    level = next(SEQUENCE)
    inner = [_dual(floating(x, "jvp"), t, level) for x, t in zip(xs, ts, strict=True)]
    with switched(forward=CURRENT.get().forward + 1):
        out = f(*build(inner))
    value, aux = split(out, has_aux, "jvp")
    leaves, rebuild = results_of(value, "jvp")
    plain = not any(isinstance(x, Tensor) for x in (*xs, *ts))
    primal = rebuild([_leave(y, level, plain) for y in leaves])
    tangent = rebuild([_leave(settle(_tangent_of(y, level)), level, plain) for y in leaves])
    return (primal, tangent, map_tensors(lambda t: _leave(t, level, plain), aux)) if has_aux else (primal, tangent)


def _dual(x: Any, t: Any, level: int) -> Tensor:
    if np.shape(x) != np.shape(t):
        raise CotangentError(f"A tangent must have its primal's shape, {np.shape(x)}; got {np.shape(t)}.")
    base = x if isinstance(x, Tensor) else Tensor(x.copy())
    if isinstance(base.node, Leaf):
        base = inner_leaf(base)
    t = t if isinstance(t, Tensor) else np.array(t)
    if t.dtype.kind not in "fciub" or (t.dtype.kind == "c" and base.dtype.kind != "c"):
        raise CotangentError(f"A tangent is {t.dtype}, but its primal is {base.dtype}.")
    made = Tensor(base.value, base.node, {**(base.tangents or {}), level: fit_tangent(t, base)})
    keep_version(base, made)
    return made


def _tangent_of(y: Tensor, level: int) -> Any:
    found = y.tangents.get(level) if y.tangents else None
    if found is not None:
        return found
    return np.zeros_like(y.value, dtype=y.dtype if y.dtype.kind in "fc" else float)


def _leave(y: Any, level: int, plain: bool) -> Any:
    """A result without what this level added; a fresh array if only plain NumPy went in."""
    if isinstance(y, Tensor):
        y = below(y, level)
    if isinstance(y, Tensor) and plain:
        y = strip(y)
    return y.copy()[()] if plain and isinstance(y, np.ndarray) else y
