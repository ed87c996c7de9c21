"""Numerical differentiation, and checks of derivatives against it.

A central difference (f(x + h) - f(x - h)) / 2h has a truncation error of O(h^2) and a rounding error of O(u / h), u being the
unit roundoff; h ~ u^(1/3) balances the two (Nocedal & Wright, Numerical Optimization, sec. 8.1). That leaves errors of the
order u^(2/3): 4e-11 in float64, 2e-5 in float32, relative to the size of f. How far a numerical derivative can be trusted is
estimated from the size of f and from a second difference with twice the step; a derivative that differs by more is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff.containers import flatten
from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.modes import no_grad
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.transforms import jvp, vjp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def numerical_grad(
    f: Callable[..., Any], *args: Any, argnum: int = 0, step: float | None = None
) -> np.ndarray[Any, Any]:
    """The gradient of a function with a single real result by central differences, two calls of f for each entry.

    Args:
        argnum: which argument; a floating or complex array. For a complex one the result is df/dx - i df/dy, as `grad`'s.
        step: h; by default the cube root of the dtype's rounding unit, times max(1, |x|).

    >>> import numpy as np, allgrad as ag
    >>> g = ag.numerical_grad(lambda x: np.sum(x**3), np.array([1.0, 2.0]))
    >>> np.allclose(g, [3.0, 12.0])
    True
    """
    x = np.array(args[argnum])
    if x.dtype.kind not in "fc":
        raise NotDifferentiableError(f"numerical_grad needs a floating or complex argument, got {x.dtype}.")
    gradient = np.zeros_like(x)

    def along(i: tuple[int, ...], direction: complex) -> float:
        h = step or _step(x.dtype) * max(1.0, float(abs(x[i])))
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[i] += x.dtype.type(sign * h * direction)
            ends.append((moved[i], _plain(f(*args[:argnum], moved, *args[argnum + 1 :]))))
        (above, f_above), (below, f_below) = ends
        return float((f_above - f_below) / abs(above - below))  # the step as it was rounded

    with no_grad():
        for i in np.ndindex(x.shape):
            gradient[i] = along(i, 1.0) - 1j * along(i, 1j) if x.dtype.kind == "c" else along(i, 1.0)
    return gradient


def check_grads(
    f: Callable[..., Any],
    *args: Any,
    modes: Sequence[str] = ("forward", "reverse"),
    order: int = 2,
    rtol: float | None = None,
    atol: float | None = None,
    seed: int = 0,
) -> None:
    """Compare the derivatives of f at `args` with numerical ones, along random directions, up to the given order.

    Args:
        f: a function of floating or complex arrays, nested as you like, with any number of results.
        modes: "forward" checks jvp, "reverse" vjp; at higher orders in every mix of them.
        order: up to which order of derivative.
        rtol: relative tolerance; by default 1e-5 for float64, 3e-2 for float32 and 0.1 for float16, times the order.
        atol: absolute tolerance, relative to the largest entry where that is above 1; by default `rtol`, but never more than what
            the numerical derivative can be trusted to.
        seed: of the random directions.

    Arguments of float16 are checked against a numerical derivative that is computed in float64.

    Raises:
        AssertionError: a derivative differs; the message says which mode, at which order, and by how much.
        ValueError: `modes` is empty or has an unknown entry, or `order` is below 1.

    >>> import numpy as np, allgrad as ag
    >>> ag.check_grads(lambda x, y: np.sin(x) * y, np.array([0.1, 0.2]), 3.0, order=2)
    """
    if not modes or set(modes) - {"forward", "reverse"}:
        raise ValueError(f"check_grads(modes=...) takes 'forward', 'reverse' or both, got {modes!r}.")
    if order < 1:
        raise ValueError(f"check_grads(order=...) must be at least 1, got {order!r}.")
    xs, build = flatten(list(args))
    xs = [np.asarray(x) for x in xs]
    worst = max((np.finfo(x.dtype).eps for x in xs if x.dtype.kind in "fc"), default=0.0)
    usual = 0.1 if worst > 1e-4 else 3e-2 if worst > 1e-10 else 1e-5
    tolerance = _Tolerance(usual if rtol is None else rtol, usual if atol is None else atol, trusted=atol is None)

    def flat(*values: Any) -> list[Any]:
        return flatten([f(*build(list(values)))])[0]

    with no_grad():  # parameters that f captured are constants here
        _check(flat, xs, modes, order, tolerance, np.random.default_rng(seed), "f")


class _Tolerance(NamedTuple):
    """How much a derivative may differ.

    `trusted` says that the absolute part is never more than the uncertainty of the numerical derivative.
    """

    rtol: float
    atol: float
    trusted: bool

    def looser(self) -> _Tolerance:
        return self._replace(rtol=2 * self.rtol, atol=2 * self.atol)

    def absolute(self, size: float, uncertainty: float) -> float:
        """What is allowed beside `rtol` where the largest entry is `size`."""
        loose = self.atol * max(1.0, size)
        return min(loose, self.atol * size + uncertainty) if self.trusted else loose


def _check(
    f: Callable[..., list[Any]],
    xs: list[Any],
    modes: Sequence[str],
    order: int,
    tolerance: _Tolerance,
    rng: np.random.Generator,
    name: str,
) -> None:
    tangents = [_direction(rng, x) for x in xs]
    expected, uncertainty = _numerical_directional(f, xs, tangents)
    if "forward" in modes:
        _, moved = jvp(f, tuple(xs), tuple(tangents))
        _compare(moved, expected, f"jvp of {name}", tolerance, uncertainty)
    if "reverse" in modes:
        ys, pullback = vjp(f, *xs)
        cotangents = [_direction(rng, np.asarray(_value(y))) for y in ys]
        pulled = pullback(cotangents)
        for x, c in zip(xs, pulled, strict=True):
            if np.asarray(c).dtype != x.dtype:
                raise AssertionError(
                    f"vjp of {name}: cotangent of dtype {np.asarray(c).dtype} for an argument of {x.dtype}."
                )
        left, right = _pairing(cotangents, expected), _pairing(pulled, tangents)
        # The sum may cancel, so its terms set the scale.
        size = max(
            (float(np.max(np.abs(_plain(c) * e), initial=0.0)) for c, e in zip(cotangents, expected, strict=True)),
            default=0.0,
        )
        spread = float(sum(np.sum(np.abs(_plain(c))) for c in cotangents)) * uncertainty
        _compare([right], [left], f"vjp of {name}, along random directions", tolerance, spread, size)
    if order > 1:
        if "forward" in modes:
            _check(
                lambda *x: jvp(f, x, tuple(tangents))[1],
                xs,
                modes,
                order - 1,
                tolerance.looser(),
                rng,
                f"jvp of {name}",
            )
        if "reverse" in modes:

            def pulled_back(*x: Any) -> list[Any]:
                return list(vjp(f, *x)[1](cotangents))

            _check(pulled_back, xs, modes, order - 1, tolerance.looser(), rng, f"vjp of {name}")


def _numerical_directional(f: Callable[..., list[Any]], xs: list[Any], tangents: list[Any]) -> tuple[list[Any], float]:
    """The derivatives of f's results along `tangents`, and how far they can be trusted, as one number."""
    if any(x.dtype == np.float16 for x in xs):  # steps in float16 would be as coarse as 0.1
        xs = [x.astype(np.float64) if x.dtype == np.float16 else x for x in xs]
    h = max((_step(x.dtype) for x in xs if x.dtype.kind in "fc"), default=1e-5)
    ends = {
        k: [_plain(y) for y in f(*[(x + k * h * t).astype(x.dtype) for x, t in zip(xs, tangents, strict=True)])]
        for k in (-2, -1, 1, 2)
    }
    near = [(a - b) / (2 * h) for a, b in zip(ends[1], ends[-1], strict=True)]
    far = [(a - b) / (4 * h) for a, b in zip(ends[2], ends[-2], strict=True)]
    size = max((float(np.max(np.abs(y), initial=0.0)) for y in ends[1]), default=0.0)
    spread = max((float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(near, far, strict=True)), default=0.0)
    uncertainty = 10 * spread + 1e3 * h**3 * size / h
    return near, uncertainty if np.isfinite(uncertainty) else np.inf


def _step(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).eps ** (1 / 3))


def _direction(rng: np.random.Generator, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if like.dtype.kind not in "fc":
        return np.zeros(like.shape)
    t = rng.standard_normal(like.shape)
    return np.asarray(t + 1j * rng.standard_normal(like.shape) if like.dtype.kind == "c" else t, dtype=like.dtype)


def _pairing(a: Sequence[Any], b: Sequence[Any]) -> float:
    """The real pairing Re sum(a b), under which a vjp is the transpose of its jvp."""
    return float(sum(np.sum(np.real(_plain(x) * _plain(y))) for x, y in zip(a, b, strict=True)))


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Tensor) else x


def _plain(x: Any) -> np.ndarray[Any, Any]:
    """In double precision, whatever it was."""
    array: np.ndarray[Any, Any] = np.asarray(_value(x))
    return np.asarray(array, dtype=np.complex128 if array.dtype.kind == "c" else np.float64)


def _compare(
    got: Sequence[Any],
    expected: Sequence[Any],
    what: str,
    tolerance: _Tolerance,
    uncertainty: float,
    size: float = 0.0,
) -> None:
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        g, e = np.asarray(_value(g)), np.asarray(e)
        if g.shape != e.shape:
            raise AssertionError(f"{what}: result {i} has shape {g.shape}, expected {e.shape}.")
        allowed = tolerance.absolute(max(size, float(np.max(np.abs(e), initial=0.0))), uncertainty)
        if not np.allclose(g, e, rtol=tolerance.rtol, atol=allowed):
            worst = float(np.max(np.abs(g - e)))
            raise AssertionError(
                f"{what}: result {i} differs from the numerical derivative by {worst:.3g} "
                f"(allowed {tolerance.rtol:g} relative, {allowed:.3g} absolute).\ngot      {g!r}\nexpected {e!r}"
            )
