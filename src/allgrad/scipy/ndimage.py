"""`scipy.ndimage` with derivatives: linear filters, and spline interpolation by values and coordinates.

A filter pads its input as `mode` says, and correlates it with its weights: both are differentiated. Rank filters
(median, minimum) and morphology are SciPy's own and refuse Tensors.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage as _scipy_ndimage

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.scipy.along import by_matrix
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


def _no_output(output: Any) -> None:
    if output is not None:
        raise NotDifferentiableError("scipy.ndimage functions with output= are not differentiated; use the result.")


@differentiates(_scipy_ndimage.correlate, "ndimage")
def correlate(
    input: Any, weights: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, origin: Any = 0
) -> Any:
    _no_output(output)
    x = operand(input)
    return _filtered(x, operand(weights, x.dtype), mode, cval, origin, range(x.ndim))


@differentiates(_scipy_ndimage.convolve, "ndimage")
def convolve(
    input: Any, weights: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, origin: Any = 0
) -> Any:
    _no_output(output)
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
    _no_output(output)
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
    _no_output(output)
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
    _no_output(output)
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
    _no_output(output)
    return _gradient_filter(input, axis, np.array([1.0, 2.0, 1.0]), mode, cval)


@differentiates(_scipy_ndimage.prewitt, "ndimage")
def prewitt(input: Any, axis: int = -1, output: Any = None, mode: Any = "reflect", cval: float = 0.0) -> Any:
    _no_output(output)
    return _gradient_filter(input, axis, np.array([1.0, 1.0, 1.0]), mode, cval)


@differentiates(_scipy_ndimage.laplace, "ndimage")
def laplace(input: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, *, axes: Any = None) -> Any:
    _no_output(output)
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
    _no_output(output)
    parts = _gaussian_derivatives(input, sigma, 2, mode, cval, keywords)
    return sum(parts[1:], parts[0])


@differentiates(_scipy_ndimage.gaussian_gradient_magnitude, "ndimage")
def gaussian_gradient_magnitude(
    input: Any, sigma: Any, output: Any = None, mode: Any = "reflect", cval: float = 0.0, **keywords: Any
) -> Any:
    _no_output(output)
    parts = _gaussian_derivatives(input, sigma, 1, mode, cval, keywords)
    return np.sqrt(sum(p * p for p in parts))


# Splines.


@differentiates(_scipy_ndimage.spline_filter1d, "ndimage")
def spline_filter1d(input: Any, order: int = 3, axis: int = -1, output: Any = None, mode: str = "mirror") -> Any:
    """The coefficients of the B-spline through the samples along one axis."""
    if output not in (None, np.float64):
        _no_output(output)
    return by_matrix(lambda e: _scipy_ndimage.spline_filter1d(e, order, axis=-1, mode=mode), input, axis)


@differentiates(_scipy_ndimage.spline_filter, "ndimage")
def spline_filter(input: Any, order: int = 3, output: Any = None, mode: str = "mirror") -> Any:
    x = operand(input)
    for axis in range(x.ndim):
        x = spline_filter1d(x, order, axis, output, mode)
    return x


def _basis(offset: Any, order: int) -> list[Any]:
    """The weights of the order + 1 nearest coefficients: B-splines at the fraction `offset` of a cell (de Boor's recurrence)."""
    weights = [1.0]
    for degree in range(1, order + 1):
        lifted: list[Any] = [0.0] * (degree + 1)
        for i, w in enumerate(weights):
            # The piece that starts i cells before: it decreases by (i + 1 - u) / degree and rises by the rest.
            u = offset + (degree - 1 - i)
            lifted[i] = lifted[i] + w * (degree - u) / degree
            lifted[i + 1] = lifted[i + 1] + w * u / degree
        weights = lifted
    return weights


def _mirrored(i: Any, n: int) -> Any:
    """Indices reflected at the first and last entry."""
    period = max(2 * (n - 1), 1)
    i = np.mod(i, period)
    return np.where(i < n, i, period - i)


@differentiates(_scipy_ndimage.map_coordinates, "ndimage")
def map_coordinates(
    input: Any,
    coordinates: Any,
    output: Any = None,
    order: int = 3,
    mode: str = "constant",
    cval: float = 0.0,
    prefilter: bool = True,
) -> Any:
    """The spline of order 1, 2 or 3 through `input` at `coordinates: (ndim, ...)`, by both.

    mode='constant' (outside the samples the result is cval) and mode='mirror'.
    """
    _no_output(output)
    if mode not in ("constant", "mirror") or order not in (1, 2, 3):
        raise NotDifferentiableError(
            f"map_coordinates(order={order}, mode={mode!r}) is not differentiated; orders 1 to 3 and the modes "
            "'constant' and 'mirror' are."
        )
    x, places = operand(input), operand(coordinates)
    coefficients = spline_filter(x, order) if prefilter and order > 1 else x
    taps: list[list[tuple[Any, Any]]] = []
    outside: Any = np.zeros(places.shape[1:], dtype=bool)
    for axis in range(x.ndim):
        n, place = x.shape[axis], places[axis]
        outside = outside | (value(place) < 0) | (value(place) > n - 1)
        first = np.floor(value(place) if order % 2 else value(place) + 0.5).astype(int) - order // 2
        offset = place - (first + order // 2) + (0 if order % 2 else 0.5)
        weights = _basis(offset, order)
        taps.append([(_mirrored(first + k, n), w) for k, w in enumerate(weights)])
    total: Any = 0.0
    for combination in itertools.product(*taps):
        term = coefficients[tuple(index for index, _ in combination)]
        for _, weight in combination:
            term = term * weight
        total = total + term
    return np.where(outside, np.asarray(cval, dtype=x.dtype), total) if mode == "constant" else total


def _grid(shape: Sequence[int]) -> Any:
    return np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in shape], indexing="ij"))


@differentiates(_scipy_ndimage.shift, "ndimage")
def shift(
    input: Any,
    shift: Any,
    output: Any = None,
    order: int = 3,
    mode: str = "constant",
    cval: float = 0.0,
    prefilter: bool = True,
) -> Any:
    """By the input and by the shift."""
    x = operand(input)
    by = operand(shift) * np.ones(x.ndim)
    places = _grid(x.shape) - np.reshape(by, (-1, *[1] * x.ndim))
    return map_coordinates(x, places, output, order, mode, cval, prefilter)


@differentiates(_scipy_ndimage.affine_transform, "ndimage")
def affine_transform(
    input: Any,
    matrix: Any,
    offset: Any = 0.0,
    output_shape: Any = None,
    output: Any = None,
    order: int = 3,
    mode: str = "constant",
    cval: float = 0.0,
    prefilter: bool = True,
) -> Any:
    """By the input, the matrix (n, n) or (n,), and the offset."""
    x, matrix = operand(input), operand(matrix)
    if matrix.ndim == 1:
        matrix = np.diag(matrix)
    if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] != x.ndim:
        raise NotDifferentiableError(
            "affine_transform of Tensors takes a matrix of (ndim, ndim) or (ndim,), and an offset."
        )
    grid = _grid(output_shape or x.shape)
    places = np.tensordot(matrix, grid, 1) + np.reshape(operand(offset) * np.ones(x.ndim), (-1, *[1] * x.ndim))
    return map_coordinates(x, places, output, order, mode, cval, prefilter)


@differentiates(_scipy_ndimage.zoom, "ndimage")
def zoom(
    input: Any,
    zoom: Any,
    output: Any = None,
    order: int = 3,
    mode: str = "constant",
    cval: float = 0.0,
    prefilter: bool = True,
) -> Any:
    """By the input, for a constant zoom factor."""
    x = operand(input)
    shape = [round(n * float(z)) for n, z in zip(x.shape, np.ones(x.ndim) * np.asarray(zoom), strict=True)]
    scale = [(n - 1) / (m - 1) if m > 1 else 1.0 for n, m in zip(x.shape, shape, strict=True)]
    places = np.minimum(
        _grid(shape) * np.reshape(scale, (-1, *[1] * x.ndim)), np.reshape(x.shape, (-1, *[1] * x.ndim)) - 1.0
    )
    return map_coordinates(x, places, output, order, mode, cval, prefilter)


def __getattr__(name: str) -> Any:
    return getattr(_scipy_ndimage, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_ndimage)})
