"""How the backward pass of a fused operation gives the gradients of parameters.

Normally there is one batch and one gradient, which is written into the memory `into` that backward offers. When the samples of
several virtual workers run as one batch (`batched_workers.py`), each parameter gets one gradient per worker: the sum over that
worker's rows. Then `into` is a `node.Collector`, and the operation goes through the workers in the collector's order:

    dweight = gradient_for(weight, into[1]) if needs[1] else None
    for rows, (dw,) in by_worker(len(x), dweight):
        kernel(x[rows], g[rows], out=dw)
    return dx, dweight

Without workers this is one round over all rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import kernels
from allgrad.kernels import bf16
from allgrad.nn.batched_workers import current_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = np.ndarray[Any, Any]


def gradient_for(parameter: Array | None, into: Any) -> Any:
    """Where the gradient of a parameter, which is needed, goes: what backward offers, or else a new array."""
    if into is None:
        assert parameter is not None
        if current_workers() is not None:
            raise RuntimeError(
                f"The gradient of a weight of shape {parameter.shape}, which is not a parameter itself, cannot be computed for "
                "several virtual workers at once. Its module must not declare `rows_independent`."
            )
        return np.empty_like(parameter)
    return into


def by_worker(rows: int, *gradients: Any) -> Iterator[tuple[slice, tuple[Any, ...]]]:
    """For each worker of the batch, its rows and the arrays that its gradients must be written to.

    Args:
        rows: how many rows the batch has. Its workers share them in order, in proportion to their samples.
        gradients: from `gradient_for`, or None for one that is not needed.
    """
    workers = current_workers()
    if workers is None:
        yield slice(0, rows), gradients
        return
    collectors = [gradient for gradient in gradients if gradient is not None]
    spans = workers.spans(rows)
    for position, worker in enumerate(collectors[0].order if collectors else range(len(spans))):
        targets = tuple(None if gradient is None else gradient.target(position) for gradient in gradients)
        if workers.samples[worker]:
            yield spans[worker], targets
        else:
            for target in targets:
                if target is not None:
                    target[...] = 0
        for collector in collectors:
            collector.finished(position)


def product_gradient(first: Array, second: Array, gradient: Any) -> None:
    """Write first^T second, the gradient of a weight, to `gradient`; first: (rows, m), second: (rows, n)."""
    workers = current_workers()
    if workers is None:
        kernels.active().matmul(first.T, second, out=gradient)
        return
    if bf16.enabled() and first.dtype == np.float32:
        first, second = bf16.rounded(first), bf16.rounded(second)
    if gradient.adds_up:
        for tree, out in gradient.trees:
            rows, segments = workers.segments(len(first), tree)
            kernels.active().product_by_worker(first[rows], second[rows], segments, out=out)
    else:
        gradient.take(kernels.active().product_of_each_worker(first, second, workers.edges(len(first))))


def sum_gradient(g: Array, gradient: Any) -> None:
    """Write the sum of the rows of g, the gradient of a bias, to `gradient`; g: (rows, n)."""
    workers = current_workers()
    if workers is None:
        kernels.active().bias_gradient(g, out=gradient)
        return
    if gradient.adds_up:
        for tree, out in gradient.trees:
            rows, segments = workers.segments(len(g), tree)
            kernels.active().sum_by_worker(g[rows], segments, out=out)
    else:
        gradient.take(kernels.active().sum_of_each_worker(g, workers.edges(len(g))))


def each_gradient(each: Array, gradient: Any) -> None:
    """Write the workers' gradients to `gradient`; each: (workers, *parameter.shape)."""
    if current_workers() is None:
        np.copyto(gradient, each[0])
    else:
        gradient.take(each)


def write_gradient(gradient: Array, into: Array | None) -> Array:
    """The gradient in the memory `into` that backward offers, or as it is if `into` is None."""
    if into is None:
        return gradient
    np.copyto(into, gradient)
    return into
