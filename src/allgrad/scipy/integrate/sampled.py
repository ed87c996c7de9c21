"""Integrals of sampled functions: trapezoid, simpson, romb and their cumulative forms.

They are sums of the samples with weights that depend on the sample points, and are differentiated by both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.scipy.registry import differentiates, operand, tracked, value
from scipy import integrate


@differentiates(integrate.trapezoid, "integrate")
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y, steps = _samples(y, x, dx, axis)
    return np.sum(steps * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)


@differentiates(integrate.cumulative_trapezoid, "integrate")
def cumulative_trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, initial: Any = None) -> Any:
    y, steps = _samples(y, x, dx, axis)
    result = np.cumsum(steps * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)
    if initial is not None:
        result = np.concatenate([np.zeros((*result.shape[:-1], 1), dtype=result.dtype), result], axis=-1)
    return np.moveaxis(result, -1, axis)


def _samples(y: Any, x: Any, dx: Any, axis: int) -> tuple[Any, Any]:
    """The samples with `axis` last, and the steps between them."""
    y = np.moveaxis(operand(y), axis, -1)
    if x is None:
        return y, dx
    x = operand(x)
    return y, np.diff(x) if x.ndim == 1 else np.diff(np.moveaxis(x, axis, -1), axis=-1)


@differentiates(integrate.simpson, "integrate")
def simpson(y: Any, x: Any = None, *, dx: Any = 1.0, axis: int = -1) -> Any:
    """Parabolas through three samples each; an even number of samples has Cartwright's correction in the last interval."""
    y, steps = _samples(y, x, dx, axis)
    n = y.shape[-1]
    h = steps * np.ones(n - 1, dtype=y.dtype)
    if n == 2:
        return np.sum(h * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)
    last = n - 1 if n % 2 else n - 2
    total = np.sum(_parabolas(y[..., : last + 1], h[..., :last]), axis=-1)
    if n % 2 == 0:
        before, after = h[..., -2], h[..., -1]
        total = (
            total
            + (2 * after**2 + 3 * before * after) / (6 * (before + after)) * y[..., -1]
            + (after**2 + 3 * before * after) / (6 * before) * y[..., -2]
            - after**3 / (6 * before * (before + after)) * y[..., -3]
        )
    return total


def _parabolas(y: Any, h: Any) -> Any:
    """The integral over each pair of intervals, for an odd number of samples."""
    first, second = h[..., ::2], h[..., 1::2]
    both, ratio = first + second, first / second
    inner = y[..., 1:-1:2] * both * both / (first * second)
    return both / 6 * (y[..., :-2:2] * (2 - 1 / ratio) + inner + y[..., 2::2] * (2 - ratio))


@differentiates(integrate.cumulative_simpson, "integrate")
def cumulative_simpson(y: Any, *, x: Any = None, dx: Any = 1.0, axis: int = -1, initial: Any = None) -> Any:
    """Each interval with the parabola through it and the next sample, the last one with the sample before it."""
    y, steps = _samples(y, x, dx, axis)
    n = y.shape[-1]
    if n < 3:
        return cumulative_trapezoid(np.moveaxis(y, -1, axis), x=x, dx=dx, axis=axis, initial=initial)
    h = np.broadcast_to(steps * np.ones(n - 1, dtype=y.dtype), (*y.shape[:-1], n - 1))
    ahead = _half_parabola(y[..., :-2], y[..., 1:-1], y[..., 2:], h[..., :-1], h[..., 1:])
    behind = _half_parabola(y[..., 2:], y[..., 1:-1], y[..., :-2], h[..., 1:], h[..., :-1])
    # SciPy uses the parabola ahead for intervals 0, 2, 4, ... and the one behind for 1, 3, ..., and behind for the last.
    use_ahead = (np.arange(n - 1) % 2 == 0) & (np.arange(n - 1) < n - 2)
    pieces = np.where(
        use_ahead,
        np.concatenate([ahead, ahead[..., -1:]], axis=-1),
        np.concatenate([behind[..., :1], behind], axis=-1),
    )
    result = np.cumsum(pieces, axis=-1)
    if initial is not None:
        first = np.broadcast_to(initial * np.ones((), dtype=y.dtype), (*result.shape[:-1], 1))
        result = np.concatenate([first, result + first], axis=-1)
    return np.moveaxis(result, -1, axis)


def _half_parabola(y0: Any, y1: Any, y2: Any, h0: Any, h1: Any) -> Any:
    """The integral from the first to the second of three samples, of the parabola through all of them."""
    both = h0 + h1
    return h0 / 6 * (y0 * (3 - h0 / both) + y1 * (3 + h0 * h0 / (h1 * both) + h0 / both) - y2 * h0 * h0 / (h1 * both))


@differentiates(integrate.romb, "integrate")
def romb(y: Any, dx: Any = 1.0, axis: int = -1, show: bool = False) -> Any:  # noqa: ARG001
    """Romberg's rule on 2^k + 1 samples. It is linear in y: its weights are found by applying it to unit vectors."""
    y = np.moveaxis(operand(y), axis, -1)
    weights = integrate.romb(np.eye(y.shape[-1]), axis=-1).astype(value(y).real.dtype)
    return np.matmul(y, weights) * dx


def _captured(func: Any, a: Any, b: Any, args: Any = (), n: int = 5) -> bool:  # noqa: ARG001
    return tracked(func(np.array([value(a) / 2 + value(b) / 2]), *args))


@differentiates(integrate.fixed_quad, "integrate", also=_captured)
def fixed_quad(func: Any, a: Any, b: Any, args: Any = (), n: int = 5) -> tuple[Any, None]:
    """Gauss-Legendre quadrature with n nodes, by the limits, `args` and what func captured."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    x = (b - a) * (nodes + 1) / 2 + a
    return (b - a) / 2 * np.sum(weights * func(x, *args), axis=-1), None
