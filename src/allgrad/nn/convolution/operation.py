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
from allgrad.nn.batched_workers import current_workers
from allgrad.nn.convolution.reference import reference, reference_transposed
from allgrad.nn.convolution.selection import choose, choose_kind
from allgrad.nn.gradients import by_worker, gradient_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allgrad.nn.convolution.algorithm import Algorithm, Array
    from allgrad.nn.convolution.epilogue import Epilogue
    from allgrad.nn.convolution.geometry import Geometry, Pair

Cotangents = tuple["Array | None", Any, Any]


def _forward(
    x: Array, weight: Array, bias: Array | None, *, geometry: Geometry, epilogue: Epilogue
) -> tuple[Array, tuple[Any, ...]]:
    outer, activation = weight.shape[3], epilogue.activation
    output = geometry.output(x.shape[1:3])
    y = np.empty((len(x), *epilogue.output(output), outer), x.dtype)
    derivative = (
        np.empty_like(y) if activation is not None and activation.needs_derivative and CURRENT.get().recording else None
    )
    winners = None if epilogue.pool is None else np.empty(y.shape, np.uint8)
    work = list(_groups(weight, geometry, x.shape[1:3], len(x)))
    most = max((group.stop - group.start for _, group in work), default=0)
    raw = np.empty((most, *output, outer), x.dtype) if epilogue.pool is not None else None
    bent = np.empty((most, *y.shape[1:]), x.dtype) if activation is not None else None
    for algorithm, group in work:
        n = group.stop - group.start
        part = y[group] if bent is None else bent[:n]
        if raw is None:
            algorithm.forward(x[group], part)
        else:
            algorithm.forward(x[group], raw[:n])
            assert epilogue.pool is not None
            assert winners is not None
            active().pool_tiles(raw[:n], epilogue.pool, out=part, winners=winners[group])
        if bias is not None:
            np.add(part, bias, out=part)
        if activation is not None:
            activation.forward(part, y[group], None if derivative is None else derivative[group])
    kept = derivative if derivative is not None else y if activation is not None else None
    return y, (x, weight, bias, kept, winners)


def _groups(weight: Array, geometry: Geometry, image: Pair, samples: int) -> Iterator[tuple[Algorithm, slice]]:
    """The groups of samples, and the algorithm of each.

    A worker's kind of algorithm does not depend on other workers. Neighbours with the same kind share it: a sample's result and
    the cotangent of its input do not depend on the samples beside it.
    """
    runs: list[tuple[type[Algorithm], int, int]] = []
    for rows, _ in by_worker(samples):
        kind, start = choose_kind(weight, geometry, image, max(1, rows.stop - rows.start)), rows.start
        if runs and runs[-1][0] is kind:
            start = runs.pop()[1]
        runs.append((kind, start, rows.stop))
    for kind, start, stop in runs:
        algorithm = kind(weight, geometry, image, max(1, stop - start))
        for group in algorithm.groups_of(stop - start, start):
            yield algorithm, group


def _backward(
    g: Array, residuals: tuple[Any, ...], *, needs: Any, into: Any, geometry: Geometry, epilogue: Epilogue
) -> Cotangents:
    x, weight, bias, kept, winners = residuals
    dx = np.empty(x.shape, x.dtype) if needs[0] else None
    dweight = gradient_for(weight, into[1]) if needs[1] else None
    dbias = gradient_for(bias, into[2]) if needs[2] else None
    apart = dx
    if dx is not None and current_workers() is not None and epilogue.activation is None and winners is None:
        for algorithm, group in _groups(weight, geometry, x.shape[1:3], len(x)):
            algorithm.backward(None, np.ascontiguousarray(g[group]), dx[group])
        apart = None  # all workers have it already
    for rows, (dw, db) in by_worker(len(x), dweight, dbias):
        count = rows.stop - rows.start
        algorithm = choose(weight, geometry, x.shape[1:3], max(1, count))
        total = None if db is None else _BiasGradient(db)
        raw = None if winners is None else np.zeros((algorithm.samples, *algorithm.output, weight.shape[3]), x.dtype)
        for group in algorithm.groups_of(count, rows.start):
            part = np.ascontiguousarray(g[group])
            n = len(part)
            if epilogue.activation is not None:
                part = epilogue.activation.backward(part, kept[group])
            if total is not None:
                total.add(part)
            if raw is not None:
                assert epilogue.pool is not None
                active().unpool_tiles(part, epilogue.pool, winners[group], out=raw[:n])
                part = raw[:n]
            if apart is not None or needs[1]:
                algorithm.backward(x[group] if needs[1] else None, part, None if apart is None else apart[group])
        if dw is not None:
            _weight_gradient(algorithm, count, dw)
    return dx, dweight, dbias


def _forward_transposed(
    x: Array, weight: Array, bias: Array | None, *, geometry: Geometry, image: Pair
) -> tuple[Array, tuple[Any, ...]]:
    y = np.empty((len(x), *image, weight.shape[2] * geometry.groups), x.dtype)
    for algorithm, group in _groups(weight, geometry, image, len(x)):
        algorithm.backward(None, np.ascontiguousarray(x[group]), y[group])
        if bias is not None:
            np.add(y[group], bias, out=y[group])
    return y, (x, weight, bias)


def _backward_transposed(
    g: Array, residuals: tuple[Any, ...], *, needs: Any, into: Any, geometry: Geometry, image: Pair
) -> Cotangents:
    x, weight, bias = residuals
    dx = np.empty(x.shape, x.dtype) if needs[0] else None
    dweight = gradient_for(weight, into[1]) if needs[1] else None
    dbias = gradient_for(bias, into[2]) if needs[2] else None
    for rows, (dw, db) in by_worker(len(x), dweight, dbias):
        count = rows.stop - rows.start
        algorithm = choose(weight, geometry, image, max(1, count))
        total = None if db is None else _BiasGradient(db)
        for group in algorithm.groups_of(count, rows.start):
            part = np.ascontiguousarray(g[group])
            if total is not None:
                total.add(part)
            if dx is not None:
                algorithm.forward(part, dx[group])
            if needs[1]:
                algorithm.backward(part, np.ascontiguousarray(x[group]), None)
        if dw is not None:
            _weight_gradient(algorithm, count, dw)
    return dx, dweight, dbias


def _weight_gradient(algorithm: Algorithm, samples: int, out: Array) -> None:
    if samples:
        algorithm.weight_gradient(out)
    else:
        out[...] = 0


class _BiasGradient:
    """The sum over pixels and samples, group by group."""

    def __init__(self, total: Array) -> None:
        self.total = total
        total[...] = 0

    def add(self, g: Array) -> None:
        np.add(self.total, active().bias_gradient(g), out=self.total)


convolve = Fused(_forward, _backward, name="convolve", reference=reference, by_worker=True)
convolve_transposed = Fused(
    _forward_transposed,
    _backward_transposed,
    name="convolve_transposed",
    reference=reference_transposed,
    by_worker=True,
)
