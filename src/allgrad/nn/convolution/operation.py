"""Convolution and transposed convolution as fused operations of the tape.

`convolve(x, weight, bias, geometry=, finish=)`: x (N, H, W, C), weight (kh, kw, C / groups, O), bias (O,) or None.
`convolve_transposed(x, weight, bias, geometry=, image=)`: x (N, h, w, C), weight (kh, kw, O / groups, C), the result's
(H, W) as `image`: the input gradient of the convolution that `geometry` and `weight` describe, which maps `image` to (h, w).

Samples go through method and finish in groups (`Method.samples`), forward and backward, so that what a group needs stays in
cache and no temporary has the size of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Fused
from allgrad.autodiff.modes import CURRENT
from allgrad.kernels import active
from allgrad.nn.convolution.choice import choose
from allgrad.nn.convolution.finish import Finish, pool_tiles, unpool_tiles
from allgrad.nn.convolution.method import deliver
from allgrad.nn.convolution.reference import reference, reference_transposed

if TYPE_CHECKING:
    from allgrad.nn.convolution.geometry import Geometry, Pair
    from allgrad.nn.convolution.method import Array, Method

Cotangents = tuple["Array | None", "Array | None", "Array | None"]


def _forward(
    x: Array, weight: Array, bias: Array | None, *, geometry: Geometry, finish: Finish
) -> tuple[Array, tuple[Any, ...]]:
    method = choose(weight, geometry, x.shape[1:3], max(1, len(x)))
    outer, curve = weight.shape[3], finish.curve
    y = np.empty((len(x), *finish.output(method.output), outer), x.dtype)
    slope = np.empty_like(y) if curve is not None and curve.keeps_slope and CURRENT.get().recording else None
    winners = None if finish.pool is None else np.empty(y.shape, np.uint8)
    raw = np.empty((method.samples, *method.output, outer), x.dtype) if finish.pool is not None else None
    bent = np.empty((method.samples, *y.shape[1:]), x.dtype) if curve is not None else None
    for group in method.groups_of(len(x)):
        n = group.stop - group.start
        part = y[group] if bent is None else bent[:n]
        if raw is None:
            method.forward(x[group], part)
        else:
            method.forward(x[group], raw[:n])
            assert finish.pool is not None
            assert winners is not None
            pool_tiles(raw[:n], finish.pool, part, winners[group])
        if bias is not None:
            np.add(part, bias, out=part)
        if curve is not None:
            curve.forward(part, y[group], None if slope is None else slope[group])
    kept = slope if slope is not None else y if curve is not None else None
    return y, (x, weight, kept, winners)


def _backward(
    g: Array, residuals: tuple[Any, ...], *, needs: Any, into: Any, geometry: Geometry, finish: Finish
) -> Cotangents:
    x, weight, kept, winners = residuals
    method = choose(weight, geometry, x.shape[1:3], max(1, len(x)))
    dx = np.empty(x.shape, x.dtype) if needs[0] else None
    bias = _BiasGradient(weight.shape[3], x.dtype, into[2]) if needs[2] else None
    raw = None if winners is None else np.zeros((method.samples, *method.output, weight.shape[3]), x.dtype)
    for group in method.groups_of(len(x)):
        part = np.ascontiguousarray(g[group])
        n = len(part)
        if finish.curve is not None:
            part = finish.curve.backward(part, kept[group])
        if bias is not None:
            bias.add(part)
        if raw is not None:
            assert finish.pool is not None
            unpool_tiles(part, finish.pool, winners[group], raw[:n])
            part = raw[:n]
        if needs[0] or needs[1]:
            method.backward(x[group] if needs[1] else None, part, None if dx is None else dx[group])
    dw = _weight_gradient(method, len(x), into[1]) if needs[1] else None
    return dx, dw, None if bias is None else bias.total


def _forward_transposed(
    x: Array, weight: Array, bias: Array | None, *, geometry: Geometry, image: Pair
) -> tuple[Array, tuple[Any, ...]]:
    method = choose(weight, geometry, image, max(1, len(x)))
    y = np.empty((len(x), *image, method.channels), x.dtype)
    for group in method.groups_of(len(x)):
        method.backward(None, np.ascontiguousarray(x[group]), y[group])
        if bias is not None:
            np.add(y[group], bias, out=y[group])
    return y, (x, weight)


def _backward_transposed(
    g: Array, residuals: tuple[Any, ...], *, needs: Any, into: Any, geometry: Geometry, image: Pair
) -> Cotangents:
    x, weight = residuals
    method = choose(weight, geometry, image, max(1, len(x)))
    dx = np.empty(x.shape, x.dtype) if needs[0] else None
    bias = _BiasGradient(method.channels, x.dtype, into[2]) if needs[2] else None
    for group in method.groups_of(len(x)):
        part = np.ascontiguousarray(g[group])
        if bias is not None:
            bias.add(part)
        if dx is not None:
            method.forward(part, dx[group])
        if needs[1]:
            method.backward(part, np.ascontiguousarray(x[group]), None)
    dw = _weight_gradient(method, len(x), into[1]) if needs[1] else None
    return dx, dw, None if bias is None else bias.total


def _weight_gradient(method: Method, samples: int, into: Array | None) -> Array:
    if samples:
        return method.weight_gradient(into)
    return deliver(np.zeros_like(method.weight), into)


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
