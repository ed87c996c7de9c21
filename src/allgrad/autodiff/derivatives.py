"""Arrays of derivatives: jacobian, hessian, derivative and hvp, made of vjp and jvp.

Complex numbers: of a complex argument, only a function that is complex-differentiable has one derivative f'(z). For a real-valued
function the result is `grad`'s, df/dx - i df/dy. For a complex-valued function both halves are computed and compared: if they
agree (the Cauchy-Riemann equations hold) the result is f'(z), and otherwise `NotDifferentiableError` says so.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.containers import flatten
from allgrad.autodiff.errors import CotangentError, NotDifferentiableError
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.transforms import Chosen, grad, jvp, results_of, split, vjp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def jacobian(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, mode: str = "reverse", has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the array of partial derivatives, of shape (*f(x).shape, *x.shape).

    Args:
        argnums: which arguments to differentiate; an int gives the derivatives themselves, a sequence a tuple of them.
        mode: "reverse" takes a backward pass for each entry of the result, "forward" a forward pass for each of x.
            Take the smaller number.
        has_aux: f returns (value, aux), and the function (jacobian, aux).

    For nested results and arguments, the structure of the result is outside and that of the argument inside:
    `jacobian(f)(x)["out"]["weight"]`.

    Raises:
        NotDifferentiableError: an argument or the result has no derivative; see the top of this file for complex ones.

    >>> import numpy as np, allgrad as ag
    >>> ag.jacobian(lambda x: x * x[0])(np.array([2.0, 3.0]))
    array([[4., 0.],
           [3., 2.]])
    >>> ag.jacobian(lambda p: p["a"] * p["b"])({"a": 2.0, "b": np.array([3.0])})
    {'a': array([3.]), 'b': array([[2.]])}
    """
    if mode not in ("reverse", "forward"):
        raise ValueError(f"jacobian(mode=...) is 'reverse' or 'forward', got {mode!r}.")

    @wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        chosen = Chosen(args, argnums, "jacobian")
        build: Any = None

        def flat(*leaves: Any) -> tuple[list[Any], Any]:
            nonlocal build
            value, aux = split(f(*chosen.put(leaves), **keywords), has_aux, "jacobian")
            _, build = results_of(value, "jacobian")
            return flatten(value)[0], aux

        rows, aux = (_by_rows if mode == "reverse" else _by_columns)(flat, chosen.leaves)
        made = build([chosen.assemble(row) for row in rows])
        return (made, aux) if has_aux else made

    return wrapped


def _by_rows(f: Callable[..., Any], xs: list[Any]) -> tuple[list[list[Any]], Any]:
    """For each result of f, its derivatives by each of `xs`: a backward pass for each entry of the results."""
    ys, pullback, aux = vjp(f, *xs, has_aux=True)
    zeros = [np.zeros(y.shape, y.dtype) for y in ys]
    rows = []
    for k, y in enumerate(ys):

        def pull(factor: complex, k: int = k, y: Any = y) -> list[Any]:
            """The cotangents of `xs` for each entry of result k, scaled by `factor`."""
            units = np.eye(y.size, dtype=y.dtype) * np.asarray(factor, y.dtype)
            pulled = [pullback([*zeros[:k], unit.reshape(y.shape), *zeros[k + 1 :]]) for unit in units]
            return [_stacked([p[i] for p in pulled], y.shape, x) for i, x in enumerate(xs)]

        along = pull(1)
        if y.dtype.kind == "c":
            across = pull(-1j)
            along = [
                _holomorphic(a, 1j * b) if x.dtype.kind == "c" else a + 1j * b
                for x, a, b in zip(xs, along, across, strict=True)
            ]
        rows.append(along)
    return rows, aux


def _stacked(rows: list[Any], shape: tuple[int, ...], x: Any) -> Any:
    if not rows:
        return np.zeros((*shape, *x.shape), x.dtype)
    return np.reshape(np.stack(rows), (*shape, *x.shape))


def _by_columns(f: Callable[..., Any], xs: list[Any]) -> tuple[list[list[Any]], Any]:
    """The same by a forward pass for each entry of `xs`."""
    zeros = [np.zeros(x.shape, x.dtype) for x in xs]
    ys, _, aux = jvp(f, xs, zeros, has_aux=True)
    rows: list[list[Any]] = [[] for _ in ys]
    for i, x in enumerate(xs):

        def push(factor: complex, i: int = i, x: Any = x) -> list[Any]:
            """The tangents of the results for each entry of argument i, scaled by `factor`."""
            units = np.eye(x.size, dtype=x.dtype) * np.asarray(factor, x.dtype)
            pushed = [jvp(f, xs, [*zeros[:i], u.reshape(x.shape), *zeros[i + 1 :]], has_aux=True)[1] for u in units]
            return [_side_by_side([p[k] for p in pushed], y, x.shape) for k, y in enumerate(ys)]

        along = push(1)
        if x.dtype.kind == "c":
            across = push(1j)
            along = [
                _holomorphic(a, -1j * b) if y.dtype.kind == "c" else a - 1j * b
                for y, a, b in zip(ys, along, across, strict=True)
            ]
        for row, part in zip(rows, along, strict=True):
            row.append(part)
    return rows, aux


def _side_by_side(columns: list[Any], y: Any, shape: tuple[int, ...]) -> Any:
    if not columns:
        return np.zeros((*y.shape, *shape), y.dtype)
    return np.reshape(np.stack(columns, axis=-1), (*y.shape, *shape))


def _holomorphic(along: Any, across: Any) -> Any:
    """The derivative along the real axis, if that along the imaginary axis is the same."""
    a, b = (np.asarray(t.value if isinstance(t, Tensor) else t) for t in (along, across))
    tolerance = float(np.finfo(a.dtype).eps ** 0.5)
    if not np.allclose(a, b, rtol=tolerance, atol=tolerance * float(np.max(np.abs(a), initial=0.0)), equal_nan=True):
        raise NotDifferentiableError(
            "The function is not complex-differentiable here: its derivatives along the real and the imaginary axis differ by "
            f"{float(np.max(np.abs(a - b))):.3g}, so no single number is its derivative. Differentiate it as a function of "
            "z.real and z.imag, with np.real and np.imag of its result."
        )
    return along


def derivative(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """The elementwise derivative: for f that works entry by entry, f' at every entry of its first argument.

    Args:
        argnums: which arguments to differentiate; an int gives the derivative itself, a sequence a tuple of them.
        has_aux: f returns (value, aux), and the function (derivative, aux).

    Raises:
        CotangentError: the result does not have the argument's shape.
        NotDifferentiableError: as `jacobian`.

    >>> import numpy as np, allgrad as ag
    >>> ag.derivative(np.sin)(np.array([0.0, np.pi]))
    array([ 1., -1.])
    """

    @wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        chosen = Chosen(args, argnums, "derivative")
        found: list[Any] = []
        aux = None
        for i, x in enumerate(chosen.leaves):

            def along(x: Any, i: int = i) -> tuple[Any, Any]:
                leaves = [*chosen.leaves[:i], x, *chosen.leaves[i + 1 :]]
                return split(f(*chosen.put(leaves), **keywords), has_aux, "derivative")

            y, t, aux = jvp(along, (x,), (np.ones(x.shape, x.dtype),), has_aux=True)
            if np.shape(y) != x.shape:
                raise CotangentError(
                    f"derivative needs an elementwise function; of shape {x.shape} it made {np.shape(y)}."
                )
            if x.dtype.kind == "c":
                across = jvp(along, (x,), (np.full(x.shape, 1j, x.dtype),), has_aux=True)[1]
                t = _holomorphic(t, -1j * across) if y.dtype.kind == "c" else t - 1j * across
            found.append(t)
        made = chosen.assemble(found)
        return (made, aux) if has_aux else made

    return wrapped


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the second derivatives of f, a function with a single real result, forward over reverse.

    The arguments are those of `jacobian`; for nested arguments the structure is that of the argument, twice.

    >>> import numpy as np, allgrad as ag
    >>> ag.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f, argnums, has_aux=has_aux), argnums, mode="forward", has_aux=has_aux)


def hvp(f: Callable[[Any], Any], x: Any, v: Any) -> Any:
    """The Hessian of f at x times v, without the Hessian: one forward-over-reverse pass (Pearlmutter 1994).

    >>> import numpy as np, allgrad as ag
    >>> ag.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([6., 0.])
    """
    return jvp(grad(f), (x,), (v,))[1]
