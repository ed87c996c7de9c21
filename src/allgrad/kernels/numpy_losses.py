"""Cross-entropy from logits, forward and backward, in NumPy.

The forward leaves the probabilities behind, because the gradient is them minus the targets; it may write them over the
logits, and the backward the gradient over them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from allgrad.kernels.blocks import Array, constant, output, rows_a_block, scratch, spans
from allgrad.kernels.numpy_softmax import narrow, row_maximum


def cross_entropy_forward(
    logits: Array, labels: Array, *, ignore_index: int = -100, label_smoothing: float = 0.0, out: Array | None = None
) -> tuple[Array, Array]:
    """See `Kernels.cross_entropy_forward`."""
    counted = labels != ignore_index
    every = np.logical_and.reduce(counted)
    logits, probabilities = np.ascontiguousarray(logits), output(out, logits)
    rows, classes = logits.shape
    losses = np.empty(rows, logits.dtype)
    keep, spread = logits.dtype.type(1 - label_smoothing), logits.dtype.type(label_smoothing / max(classes, 1))
    where = row_starts(rows, classes) + (labels if every else np.where(counted, labels, 0))
    ones = constant(logits.dtype, 1, classes)
    for span in spans(rows, rows_a_block(classes)):
        x, e, loss = logits[span], probabilities[span], losses[span]
        if not narrow(x):
            x = np.subtract(x, row_maximum(x), e)
        picked = x.reshape(-1).take(where[span] - span.start * classes if span.start else where[span])
        if label_smoothing:
            picked = picked * keep + (x @ ones) * spread
        np.exp(x, e)
        total = e @ ones
        np.log(total, loss)
        np.subtract(loss, picked, loss)
        np.reciprocal(total, total)
        np.multiply(e, total[:, None], e)
    if not every:
        losses[~counted] = 0
    return losses, probabilities


def cross_entropy_backward(
    scale: Array | float,
    probabilities: Array,
    labels: Array,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """See `Kernels.cross_entropy_backward`."""
    gradient = output(out, probabilities)
    rows, classes = probabilities.shape
    dtype = probabilities.dtype
    ignored = labels == ignore_index
    where = row_starts(rows, classes)
    if isinstance(scale, np.ndarray) or np.logical_or.reduce(ignored):
        scales = np.where(ignored, 0, scale).astype(dtype)[:, None]
        where = where + np.where(ignored, 0, labels)
    else:
        scales = np.array([[scale]], dtype)  # one for all rows
        where = where + labels
    keep, spread = dtype.type(1 - label_smoothing), dtype.type(label_smoothing / max(classes, 1))
    for span in spans(rows, rows_a_block(classes)):
        d, factor = gradient[span], scales if len(scales) == 1 else scales[span]
        if label_smoothing:
            np.subtract(probabilities[span], spread, d)
            np.multiply(d, factor, d)
        else:
            np.multiply(probabilities[span], factor, d)
        d.reshape(-1)[where[span] - span.start * classes if span.start else where[span]] -= factor[:, 0] * keep
    return gradient


def soft_cross_entropy_forward(logits: Array, targets: Array, *, out: Array | None = None) -> tuple[Array, Array]:
    """See `Kernels.soft_cross_entropy_forward`."""
    probabilities = output(out, logits)
    rows, classes = logits.shape
    losses = np.empty(rows, logits.dtype)
    ones = constant(logits.dtype, 1, classes)
    for span in spans(rows, rows_a_block(classes)):
        e, t = probabilities[span], targets[span]
        product = scratch(logits.dtype, 0, e.shape)
        np.subtract(logits[span], row_maximum(logits[span]), e)
        picked = np.multiply(e, t, product) @ ones
        np.exp(e, e)
        total = e @ ones
        np.subtract(np.log(total) * (t @ ones), picked, losses[span])
        np.reciprocal(total, total)
        np.multiply(e, total[:, None], e)
    return losses, probabilities


def soft_cross_entropy_backward(
    scale: Array | float, probabilities: Array, targets: Array, *, out: Array | None = None
) -> Array:
    """See `Kernels.soft_cross_entropy_backward`."""
    gradient = output(out, probabilities)
    rows, classes = probabilities.shape
    scales = np.broadcast_to(np.asarray(scale, probabilities.dtype), (rows,))
    ones = constant(probabilities.dtype, 1, classes)
    for span in spans(rows, rows_a_block(classes)):
        d, t = gradient[span], targets[span]
        np.multiply(probabilities[span], (t @ ones)[:, None], d)
        np.subtract(d, t, d)
        np.multiply(d, scales[span, None], d)
    return gradient


@lru_cache(maxsize=16)
def row_starts(rows: int, classes: int) -> Array:
    """Where each row of a flattened matrix starts; read-only, kept for the next call."""
    starts = np.arange(rows) * classes
    starts.flags.writeable = False
    return starts
