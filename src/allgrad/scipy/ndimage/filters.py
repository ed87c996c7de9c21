"""Linear filters of images: the input is padded as `mode` says and correlated with weights, and both are differentiated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage as _scipy_ndimage

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.scipy.registry import differentiates, operand, value
from allgrad.scipy.signal.convolution import convolved

if TYPE_CHECKING:
    from collections.abc import Sequence

PADDING = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "grid-wrap": "wrap",
    "constant": "constant",
    "grid-constant": "constant",
}
"""SciPy's names of boundary modes and NumPy's."""


def _padded(x: Any, before: int, after: int, axis: int, mode: str, cval: float) -> Any:
    width = [(0, 0)] * x.ndim
    width[axis] = (before, after)
    options: Any = {"constant_values": cval} if PADDING[mode] == "constant" else {}
    kind: Any = PADDING[mode]
    return np.pad(x, width, kind, **options)


def _filtered(x: Any, weights: Any, mode: Any, cval: float, origin: Any, axes: Sequence[int]) -> Any:
    """The correlation of x with weights along `axes`, in the shape of x."""
    modes, origins = _each(mode, len(axes)), _each(origin, len(axes))
    for axis, m, o, n in zip(axes, modes, origins, weights.shape, strict=True):
        before = n // 2 + o
        x = _padded(x, before, n - 1 - before, axis, m, cval)
    shape = [1] * x.ndim
    for axis, n in zip(axes, weights.shape, strict=True):
        shape[axis] = n
    return convolved(x, np.reshape(np.flip(weights), shape), "valid", None, "direct")


def _each(option: Any, count: int) -> list[Any]:
    return [option] * count if isinstance(option, (str, int, float)) or option is None else list(option)


def no_output(output: Any) -> None:
    if output is not None:
        raise NotDifferentiableError("scipy.ndimage functions with output= are not differentiated; use the result.")


@differentiates(_scipy_ndimage.correlate, "ndimage")
def correlate(
    input: Any, weights: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, origin: Any = 0
) -> Any:
    no_output(output)
    x = operand(input)
    return _filtered(x, operand(weights, x.dtype), mode, cval, origin, range(x.ndim))


@differentiates(_scipy_ndimage.convolve, "ndimage")
def convolve(
    input: Any, weights: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, origin: Any = 0
) -> Any:
    no_output(output)
    x, weights = operand(input), operand(weights)
    origins = [-o - (n % 2 == 0) for o, n in zip(_each(origin, x.ndim), weights.shape, strict=True)]
    return _filtered(x, np.flip(weights), mode, cval, origins, range(x.ndim))


@differentiates(_scipy_ndimage.correlate1d, "ndimage")
def correlate1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int = 0,
) -> Any:
    no_output(output)
    x = operand(input)
    return _filtered(x, operand(weights, x.dtype), mode, cval, origin, (axis % x.ndim,))


@differentiates(_scipy_ndimage.convolve1d, "ndimage")
def convolve1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int = 0,
) -> Any:
    weights = operand(weights)
    shifted = -origin - (weights.shape[0] % 2 == 0)
    return correlate1d(input, np.flip(weights), axis, output, mode, cval, shifted)


def _gaussian_weights(sigma: Any, order: int, radius: int) -> Any:
    """The samples of a Gaussian of sum 1, times the polynomial of its derivative of the given order."""
    x = np.arange(-radius, radius + 1)
    density = np.exp(-0.5 * x * x / (sigma * sigma))
    density = density / np.sum(density)
    factors = {0: 1.0, 1: x / (sigma * sigma), 2: (x * x / (sigma * sigma) - 1) / (sigma * sigma)}
    if order not in factors:
        raise NotDifferentiableError(f"gaussian filters are differentiated for orders 0, 1 and 2, not {order}.")
    return density * factors[order]


@differentiates(_scipy_ndimage.gaussian_filter1d, "ndimage")
def gaussian_filter1d(
    input: Any,
    sigma: Any,
    axis: int = -1,
    order: int = 0,
    output: Any = None,
    mode: str = "reflect",
    cval: float = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
) -> Any:
    """By the input and by sigma, at a fixed radius of the kernel."""
    reach = int(truncate * float(value(sigma)) + 0.5) if radius is None else radius
    return correlate1d(input, _gaussian_weights(sigma, order, reach), axis, output, mode, cval)


def _chosen(x: Any, axes: Any) -> list[int]:
    return list(range(x.ndim)) if axes is None else [int(a) % x.ndim for a in np.atleast_1d(axes)]


@differentiates(_scipy_ndimage.gaussian_filter, "ndimage")
def gaussian_filter(
    input: Any,
    sigma: Any,
    order: Any = 0,
    output: Any = None,
    mode: Any = "reflect",
    cval: float = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
    axes: Any = None,
) -> Any:
    no_output(output)
    x = operand(input)
    chosen = _chosen(x, axes)
    sigmas = [sigma] * len(chosen) if np.ndim(sigma) == 0 else [sigma[i] for i in range(len(chosen))]
    options = zip(
        chosen, sigmas, _each(order, len(chosen)), _each(mode, len(chosen)), _each(radius, len(chosen)), strict=True
    )
    for axis, s, o, m, r in options:
        if value(s) > 1e-15:
            x = gaussian_filter1d(x, s, axis, o, None, m, cval, truncate, radius=r)
    return x


@differentiates(_scipy_ndimage.uniform_filter1d, "ndimage")
def uniform_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect", cval: float = 0.0, origin: int = 0
) -> Any:
    return correlate1d(input, np.full(size, 1 / size), axis, output, mode, cval, origin)


@differentiates(_scipy_ndimage.uniform_filter, "ndimage")
def uniform_filter(
    input: Any,
    size: Any = 3,
    output: Any = None,
    mode: Any = "reflect",
    cval: float = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> Any:
    no_output(output)
    x = operand(input)
    chosen = _chosen(x, axes)
    count = len(chosen)
    for axis, n, m, o in zip(chosen, _each(size, count), _each(mode, count), _each(origin, count), strict=True):
        x = uniform_filter1d(x, n, axis, None, m, cval, o)
    return x


def _gradient_filter(x: Any, axis: int, smoothing: Any, mode: Any, cval: float) -> Any:
    """A central difference along one axis, smoothing along the others."""
    x = operand(x)
    modes = _each(mode, x.ndim)
    axis = axis % x.ndim
    result = correlate1d(x, np.array([-1.0, 0.0, 1.0]), axis, None, modes[axis], cval)
    for other in range(x.ndim):
        if other != axis:
            result = correlate1d(result, smoothing, other, None, modes[other], cval)
    return result


@differentiates(_scipy_ndimage.sobel, "ndimage")
def sobel(input: Any, axis: int = -1, output: Any = None, mode: Any = "reflect", cval: float = 0.0) -> Any:
    no_output(output)
    return _gradient_filter(input, axis, np.array([1.0, 2.0, 1.0]), mode, cval)


@differentiates(_scipy_ndimage.prewitt, "ndimage")
def prewitt(input: Any, axis: int = -1, output: Any = None, mode: Any = "reflect", cval: float = 0.0) -> Any:
    no_output(output)
    return _gradient_filter(input, axis, np.array([1.0, 1.0, 1.0]), mode, cval)


@differentiates(_scipy_ndimage.laplace, "ndimage")
def laplace(input: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, *, axes: Any = None) -> Any:
    no_output(output)
    x = operand(input)
    chosen = _chosen(x, axes)
    second = np.array([1.0, -2.0, 1.0])
    parts = [correlate1d(x, second, a, None, m, cval) for a, m in zip(chosen, _each(mode, len(chosen)), strict=True)]
    return sum(parts[1:], parts[0])


def _gaussian_derivatives(x: Any, sigma: Any, order: int, mode: Any, cval: float, keywords: Any) -> list[Any]:
    """The derivatives of the given order along each axis of x after smoothing."""
    x = operand(x)
    orders = order * np.eye(x.ndim, dtype=int)
    return [gaussian_filter(x, sigma, [int(i) for i in row], None, mode, cval, **keywords) for row in orders]


@differentiates(_scipy_ndimage.gaussian_laplace, "ndimage")
def gaussian_laplace(
    input: Any, sigma: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, **keywords: Any
) -> Any:
    no_output(output)
    parts = _gaussian_derivatives(input, sigma, 2, mode, cval, keywords)
    return sum(parts[1:], parts[0])


@differentiates(_scipy_ndimage.gaussian_gradient_magnitude, "ndimage")
def gaussian_gradient_magnitude(
    input: Any, sigma: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, **keywords: Any
) -> Any:
    no_output(output)
    parts = _gaussian_derivatives(input, sigma, 1, mode, cval, keywords)
    return np.sqrt(sum(p * p for p in parts))
