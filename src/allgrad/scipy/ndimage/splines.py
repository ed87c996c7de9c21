"""Splines through the samples of an image, by the samples and by the places where they are evaluated."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage as _scipy_ndimage

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.scipy.along import by_matrix
from allgrad.scipy.ndimage.filters import no_output
from allgrad.scipy.registry import differentiates, operand, value

if TYPE_CHECKING:
    from collections.abc import Sequence


@differentiates(_scipy_ndimage.spline_filter1d, "ndimage")
def spline_filter1d(input: Any, order: int = 3, axis: int = -1, output: Any = None, mode: str = "mirror") -> Any:
    """The coefficients of the B-spline through the samples along one axis."""
    if output not in (None, np.float64):
        no_output(output)
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
    no_output(output)
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
