"""Functions in, functions out: grad, vjp, jvp and what is made of them.

They differentiate functions of arrays, numbers, and nested dicts, lists and tuples of them. Given plain NumPy they return plain
NumPy; inside another transform they return Tensors, so that they nest in any mix and to any order.

Convention for complex numbers (JAX's): for real-valued f of z = x + iy, `grad` gives df/dx - i df/dy; step against the
*conjugate* to descend. A vjp is the transpose of the jvp, without conjugation.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.containers import flatten, map_tensors
from allgrad.autodiff.engine import CLOSED, captured, first_cotangent, pull
from allgrad.autodiff.errors import CotangentError, NotDifferentiableError
from allgrad.autodiff.forward import below, fit_tangent, strip
from allgrad.autodiff.fused import inner_leaf
from allgrad.autodiff.modes import CURRENT, switched
from allgrad.autodiff.node import SEQUENCE, Node
from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Inputs:
    """Fresh inner leaves for (some of) a function's arguments, linked to what they are outside."""

    def __init__(self, args: Sequence[Any], argnums: int | Sequence[int], caller: str) -> None:
        self.single = isinstance(argnums, int)
        self.argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        for i in self.argnums:
            if not -len(args) <= i < len(args):
                raise ValueError(
                    f"{caller}: argnums={argnums!r}, but the function was called with {len(args)} arguments."
                )
        outer, self.build = flatten([args[i] for i in self.argnums])
        self.outer = [_floating(x, caller) for x in outer]
        self.linked = any(isinstance(x, Tensor) and x.node is not None for x in self.outer)
        # A plain array is copied: what the caller writes to it later must not reach what was saved.
        inner = [inner_leaf(x if isinstance(x, Tensor) else Tensor(x.copy())) for x in self.outer]
        self.nodes: list[Node] = [t.node for t in inner if t.node is not None]
        self.args = list(args)
        for i, x in zip(self.argnums, self.build(inner), strict=True):
            self.args[i] = x

    def assemble(self, values: list[Any]) -> Any:
        built = self.build(values)
        return built[0] if self.single else tuple(built)

    def zeros(self, k: int) -> Any:
        return np.zeros(self.outer[k].shape, self.outer[k].dtype)

    def close(self) -> None:
        """The transform is over: unlinked inner leaves want no gradient from a walk further out."""
        for node in self.nodes:
            if not node.parents:
                node.plan, node.origin = None, CLOSED


def _floating(x: Any, caller: str) -> Any:
    array = x if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype.kind not in "fc":
        raise NotDifferentiableError(
            f"{caller} needs floating or complex arguments to differentiate, got {array.dtype}"
            f"{f' of shape {array.shape}' if array.shape else f' ({x!r})'}. Write 3.0 for 3, or choose others with argnums."
        )
    return array


def _outside(x: Any, inputs: _Inputs) -> Any:
    """A result as it leaves the transform: a Tensor if something outside is tracked through it, else plain NumPy."""
    if not isinstance(x, Tensor):
        return x
    if CURRENT.get().recording and (inputs.linked or captured([x], inputs.nodes)):
        return x
    return _outside_untracked(x, inputs)


def _outside_untracked(x: Tensor, inputs: _Inputs) -> Any:
    if x.tangents is not None or any(isinstance(o, Tensor) for o in inputs.outer):
        return Tensor(x.value, None, x.tangents)
    return x.value[()]


def vjp(f: Callable[..., Any], *args: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of f at `args`, and the function that pulls a cotangent of it back to cotangents of the arguments.

    Returns:
        (f(*args), pullback): pullback takes a cotangent in the form of the value (nested as it is) and returns a tuple
        with the cotangent of each argument. It may be called more than once. With `has_aux`, f returns (value, aux), and
        aux comes third.

    >>> import numpy as np, allgrad as ag
    >>> y, pullback = ag.vjp(np.sin, 0.0)
    >>> float(y), [float(c) for c in pullback(2.0)]
    (0.0, [2.0])
    """
    inputs = _Inputs(args, tuple(range(len(args))), "vjp")
    with switched(recording=True, reverse=CURRENT.get().reverse + 1):
        out = f(*inputs.args)
    out, aux = out if has_aux else (out, None)
    leaves, build = flatten(out)
    leaves = [y if isinstance(y, Tensor) else Tensor(np.asarray(y)) for y in leaves]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given, _ = flatten(cotangent)
        if len(given) != len(leaves):
            raise CotangentError(f"The pullback needs {len(leaves)} arrays, nested as the value is; got {len(given)}.")
        seeds = [first_cotangent(y, c) for y, c in zip(leaves, given, strict=True)]
        parts, _ = pull(leaves, seeds, inputs.nodes, linked=inputs.linked, keep=True)
        return tuple(inputs.build([inputs.zeros(k) if p is None else _finish(p, inputs) for k, p in enumerate(parts)]))

    value = build([_outside(y, inputs) for y in leaves])
    return (value, pullback, map_tensors(lambda t: _outside(t, inputs), aux)) if has_aux else (value, pullback)


def _finish(gradient: Any, inputs: _Inputs) -> Any:
    """A gradient as the user gets it: an array of his own, or a Tensor where something outside is tracked."""
    if isinstance(gradient, Tensor):
        if gradient.node is not None or gradient.tangents is not None:
            return gradient
        gradient = gradient.value
    if any(isinstance(o, Tensor) for o in inputs.outer):
        return Tensor(np.array(gradient))
    return np.array(gradient)[()]


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns f's value and its gradient.

    Args:
        f: returns a single real number, or (number, aux) with `has_aux`. (Complex arguments are fine.)
        argnums: which arguments to differentiate; an int gives the gradient itself, a sequence a tuple of them.

    Raises:
        NotDifferentiableError: an argument or the result has no gradient: integers, or a complex result.
        CotangentError: the result is not a single number.

    >>> import numpy as np, allgrad as ag
    >>> value, gradient = ag.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, array([2., 4.]))
    """

    @wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> tuple[Any, Any]:
        inputs = _Inputs(args, argnums, "grad")
        with switched(recording=True, reverse=CURRENT.get().reverse + 1):
            out = f(*inputs.args, **keywords)
        y, aux = out if has_aux else (out, None)
        aux = map_tensors(lambda t: _outside(t, inputs), aux)
        y = y if isinstance(y, Tensor) else Tensor(np.asarray(y))
        if y.dtype.kind == "c":
            raise NotDifferentiableError(
                "grad needs a real result, got a complex one; take its real part, or use ag.vjp."
            )
        parts, tracked = pull([y], [first_cotangent(y, None)], inputs.nodes, linked=inputs.linked)
        gradients = [inputs.zeros(k) if p is None else _finish(p, inputs) for k, p in enumerate(parts)]
        value = y if tracked else _outside_untracked(y, inputs)
        inputs.close()
        return (value, aux) if has_aux else value, inputs.assemble(gradients)

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
    inner = [_dual(_floating(x, "jvp"), t, level) for x, t in zip(xs, ts, strict=True)]
    with switched(forward=CURRENT.get().forward + 1):
        out = f(*build(inner))
    out, aux = out if has_aux else (out, None)
    leaves, rebuild = flatten(out)
    plain = not any(isinstance(x, Tensor) for x in (*xs, *ts))
    value = rebuild([_leave(y, level, plain) for y in leaves])
    tangent = rebuild([_leave(_tangent_of(y, level), level, plain) for y in leaves])
    return (value, tangent, map_tensors(lambda t: _leave(t, level, plain), aux)) if has_aux else (value, tangent)


def _dual(x: Any, t: Any, level: int) -> Tensor:
    if np.shape(x) != np.shape(t):
        raise CotangentError(f"A tangent must have its primal's shape, {np.shape(x)}; got {np.shape(t)}.")
    base = x if isinstance(x, Tensor) else Tensor(x)
    t = t if isinstance(t, Tensor) else np.asarray(t)
    if t.dtype.kind == "c" and base.dtype.kind != "c":
        raise CotangentError(f"A tangent is complex, but its primal is {base.dtype}.")
    made = Tensor(base.value, base.node, {**(base.tangents or {}), level: fit_tangent(t, base)})
    made._storage = base._storage
    return made


def _tangent_of(y: Any, level: int) -> Any:
    found = y.tangents.get(level) if isinstance(y, Tensor) and y.tangents else None
    if found is not None:
        return found
    like = y.value if isinstance(y, Tensor) else np.asarray(y)
    return np.zeros_like(like, dtype=like.dtype if like.dtype.kind in "fc" else float)


def _leave(y: Any, level: int, plain: bool) -> Any:
    """A result without what this level added; plain NumPy if only plain NumPy went in."""
    if isinstance(y, Tensor):
        y = below(y, level)
    if isinstance(y, Tensor) and plain:
        y = strip(y)
    return y[()] if plain and isinstance(y, np.ndarray) else y


def derivative(f: Callable[..., Any]) -> Callable[..., Any]:
    """The elementwise derivative: for f that works entry by entry, f' at every entry of its first argument.

    >>> import numpy as np, allgrad as ag
    >>> ag.derivative(np.sin)(np.array([0.0, np.pi]))
    array([ 1., -1.])
    """

    @wraps(f)
    def wrapped(x: Any, *rest: Any, **keywords: Any) -> Any:
        x = _floating(x, "derivative")
        y, t = jvp(lambda x: f(x, *rest, **keywords), (x,), (np.ones(x.shape, x.dtype),))
        if np.shape(y) != np.shape(x):
            raise CotangentError(f"derivative() needs an elementwise function: {np.shape(x)} gave {np.shape(y)}.")
        return t

    return wrapped


def jacobian(f: Callable[..., Any], argnum: int = 0, *, mode: str = "reverse") -> Callable[..., Any]:
    """A function that returns the matrix of partial derivatives, of shape (*f(x).shape, *x.shape).

    Args:
        argnum: which argument to differentiate; one array.
        mode: "reverse" takes a backward pass for each entry of the result, "forward" a forward pass for each of x.
            Take the smaller number.

    >>> import numpy as np, allgrad as ag
    >>> ag.jacobian(lambda x: x * x[0])(np.array([2.0, 3.0]))
    array([[4., 0.],
           [3., 2.]])
    """
    if mode not in ("reverse", "forward"):
        raise ValueError(f"jacobian(mode=...) is 'reverse' or 'forward', got {mode!r}.")

    @wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        def along(x: Any) -> Any:
            return f(*args[:argnum], x, *args[argnum + 1 :], **keywords)

        x = _floating(args[argnum], "jacobian")
        return (_jacobian_reverse if mode == "reverse" else _jacobian_forward)(along, x)

    return wrapped


def _jacobian_reverse(f: Callable[[Any], Any], x: Any) -> Any:
    y, pullback = vjp(f, x)
    shape, dtype = np.shape(y), y.dtype
    rows = [pullback(np.reshape(row, shape))[0] for row in np.eye(int(np.prod(shape)), dtype=dtype)]
    if not rows:
        return np.zeros((*shape, *x.shape), dtype)
    return np.reshape(np.stack(rows), (*shape, *x.shape))


def _jacobian_forward(f: Callable[[Any], Any], x: Any) -> Any:
    columns = [jvp(f, (x,), (np.reshape(column, x.shape),))[1] for column in np.eye(x.size, dtype=x.dtype)]
    if not columns:
        y = jvp(f, (x,), (np.zeros(x.shape, x.dtype),))[0]
        return np.zeros((*np.shape(y), *x.shape), y.dtype)
    return np.reshape(np.stack(columns, axis=-1), (*np.shape(columns[0]), *x.shape))


def hessian(f: Callable[..., Any], argnum: int = 0) -> Callable[..., Any]:
    """The matrix of second derivatives of a function with a single result, forward over reverse.

    >>> import numpy as np, allgrad as ag
    >>> ag.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f, argnum), argnum, mode="forward")


def hvp(f: Callable[[Any], Any], x: Any, v: Any) -> Any:
    """The Hessian of f at x times v, without the Hessian: one forward-over-reverse pass (Pearlmutter 1994).

    >>> import numpy as np, allgrad as ag
    >>> ag.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """
    return jvp(grad(f), (x,), (v,))[1]
