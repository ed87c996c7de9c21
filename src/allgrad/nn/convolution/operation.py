"""Convolution and transposed convolution as fused operations of the tape.

`convolve(x, weight, bias, geometry=, epilogue=)`: x: (batch, height, width, in) float, weight: (kh, kw, in / groups, out) float,
bias: (out,) float or None.

`convolve_transposed(x, weight, bias, geometry=, image=)`: x: (batch, height, width, in) float, weight: (kh, kw, out / groups, in)
float, bias: (out,) float or None; `image` is (height, width) of the result. This is the input gradient of the convolution that
`geometry` and `weight` describe, which maps `image` to the size of x.

Samples go through algorithm and epilogue in groups (`Algorithm.samples`), forward and backward, so that a group stays in
cache and no temporary has the size of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Fused
from allgrad.autodiff.modes import CURRENT
from allgrad.kernels import active
from allgrad.nn.convolution.epilogue import Epilogue, pool_tiles, unpool_tiles
from allgrad.nn.convolution.reference import reference, reference_transposed
from allgrad.nn.convolution.selection import choose
from allgrad.nn.gradients import write_gradient

if TYPE_CHECKING:
    from allgrad.nn.convolution.algorithm import Algorithm, Array
    from allgrad.nn.convolution.geometry import Geometry, Pair

Cotangents = tuple["Array | None", "Array | None", "Array | None"]


def _forward(
    x: Array, weight: Array, bias: Array | None, *, geometry: Geometry, epilogue: Epilogue
) -> tuple[Array, tuple[Any, ...]]:
    algorithm = choose(weight, geometry, x.shape[1:3], max(1, len(x)))
    outer, activation = weight.shape[3], epilogue.activation
    y = np.empty((len(x), *epilogue.output(algorithm.output), outer), x.dtype)
    derivative = (
        np.empty_like(y) if activation is not None and activation.needs_derivative and CURRENT.get().recording else None
    )
    winners = None if epilogue.pool is None else np.empty(y.shape, np.uint8)
    raw = np.empty((algorithm.samples, *algorithm.output, outer), x.dtype) if epilogue.pool is not None else None
    bent = np.empty((algorithm.samples, *y.shape[1:]), x.dtype) if activation is not None else None
    for group in algorithm.groups_of(len(x)):
        n = group.stop - group.start
        part = y[group] if bent is None else bent[:n]
        if raw is None:
            algorithm.forward(x[group], part)
        else:
            algorithm.forward(x[group], raw[:n])
            assert epilogue.pool is not None
            assert winners is not None
            pool_tiles(raw[:n], epilogue.pool, part, winners[group])
        if bias is not None:
            np.add(part, bias, out=part)
        if activation is not None:
            activation.forward(part, y[group], None if derivative is None else derivative[group])
    kept = derivative if derivative is not None else y if activation is not None else None
    return y, (x, weight, kept, winners)


def _backward(
    g: Array, residuals: tuple[Any, ...], *, needs: Any, into: Any, geometry: Geometry, epilogue: Epilogue
) -> Cotangents:
    x, weight, kept, winners = residuals
    algorithm = choose(weight, geometry, x.shape[1:3], max(1, len(x)))
    dx = np.empty(x.shape, x.dtype) if needs[0] else None
    bias = _BiasGradient(weight.shape[3], x.dtype, into[2]) if needs[2] else None
    raw = None if winners is None else np.zeros((algorithm.samples, *algorithm.output, weight.shape[3]), x.dtype)
    for group in algorithm.groups_of(len(x)):
        part = np.ascontiguousarray(g[group])
        n = len(part)
        if epilogue.activation is not None:
            part = epilogue.activation.backward(part, kept[group])
        if bias is not None:
            bias.add(part)
        if raw is not None:
            assert epilogue.pool is not None
            unpool_tiles(part, epilogue.pool, winners[group], raw[:n])
            part = raw[:n]
        if needs[0] or needs[1]:
            algorithm.backward(x[group] if needs[1] else None, part, None if dx is None else dx[group])
    dw = _weight_gradient(algorithm, len(x), into[1]) if needs[1] else None
    return dx, dw, None if bias is None else bias.total


def _forward_transposed(
    x: Array, weight: Array, bias: Array | None, *, geometry: Geometry, image: Pair
) -> tuple[Array, tuple[Any, ...]]:
    algorithm = choose(weight, geometry, image, max(1, len(x)))
    y = np.empty((len(x), *image, algorithm.channels), x.dtype)
    for group in algorithm.groups_of(len(x)):
        algorithm.backward(None, np.ascontiguousarray(x[group]), y[group])
        if bias is not None:
            np.add(y[group], bias, out=y[group])
    return y, (x, weight)


def _backward_transposed(
    g: Array, residuals: tuple[Any, ...], *, needs: Any, into: Any, geometry: Geometry, image: Pair
) -> Cotangents:
    x, weight = residuals
    algorithm = choose(weight, geometry, image, max(1, len(x)))
    dx = np.empty(x.shape, x.dtype) if needs[0] else None
    bias = _BiasGradient(algorithm.channels, x.dtype, into[2]) if needs[2] else None
    for group in algorithm.groups_of(len(x)):
        part = np.ascontiguousarray(g[group])
        if bias is not None:
            bias.add(part)
        if dx is not None:
            algorithm.forward(part, dx[group])
        if needs[1]:
            algorithm.backward(part, np.ascontiguousarray(x[group]), None)
    dw = _weight_gradient(algorithm, len(x), into[1]) if needs[1] else None
    return dx, dw, None if bias is None else bias.total


def _weight_gradient(algorithm: Algorithm, samples: int, into: Array | None) -> Array:
    if samples:
        return algorithm.weight_gradient(into)
    return write_gradient(np.zeros_like(algorithm.weight), into)


class _BiasGradient:
    """The sum over pixels and samples, group by group."""

    def __init__(self, channels: int, dtype: np.dtype[Any], into: Array | None) -> None:
        self.total = np.empty(channels, dtype) if into is None else into
        self.total[...] = 0

    def add(self, g: Array) -> None:
        np.add(self.total, active().bias_gradient(g), out=self.total)


convolve = Fused(_forward, _backward, name="convolve", reference=reference)
convolve_transposed = Fused(
    _forward_transposed, _backward_transposed, name="convolve_transposed", reference=reference_transposed
)
