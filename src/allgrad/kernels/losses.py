"""Cross-entropy from logits, forward and backward, with loops in NumPy.

The forward leaves the probabilities behind, because the gradient is them minus the targets; it may write them over the
logits, and the backward the gradient over them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from allgrad.kernels.blocks import AnyDtype, Array, constant, contiguous, output, rows_a_block, scratch, spans
from allgrad.kernels.softmax import narrow, row_maximum

PAIRWISE = 128
"""Up to this many numbers NumPy adds up in eight sums. It halves more numbers first, but then a call takes little of the time."""


class Losses:
    losses: Any

    def cross_entropy_forward(
        self,
        logits: Array,
        labels: Array,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        """Cross-entropy of logits (rows, classes) with labels (rows,), int64; each is a class or `ignore_index`, which the caller
        has checked.

        With smoothing e the target is (1 - e) on the label plus e / classes everywhere (Szegedy et al. 2016).
        Returns the loss of each row (0 where the label is `ignore_index`) and the probabilities, which the backward needs;
        `out` (may be `logits`) receives those.
        """
        probabilities, losses = output(out, logits), np.empty(len(logits), logits.dtype)
        if logits.size:
            keep, spread = 1 - label_smoothing, label_smoothing / logits.shape[1]
            self.losses.cross_entropy_forward[logits.dtype](
                contiguous(logits), labels, ignore_index, keep, spread, losses, probabilities
            )
        return losses, probabilities

    def cross_entropy_backward(
        self,
        scale: Array | float,
        probabilities: Array,
        labels: Array,
        *,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        out: Array | None = None,
    ) -> Array:
        """(probabilities - target) * scale, where scale is a number, or (rows,): the cotangent of the rows' losses.

        0 in rows that do not count. `out` may be `probabilities`.
        """
        gradient = output(out, probabilities)
        rows, classes = probabilities.shape
        scales = np.empty(rows, probabilities.dtype)
        if isinstance(scale, float):
            scales.fill(scale)  # in a fraction of the time of the line below
        else:
            scales[...] = scale
        keep, spread = 1 - label_smoothing, label_smoothing / max(classes, 1)
        self.losses.cross_entropy_backward[probabilities.dtype](
            scales, contiguous(probabilities), labels, ignore_index, keep, spread, gradient
        )
        return gradient

    def scaled_sum(self, entries: Array, scale: float) -> Array:
        """The sum of all entries times a factor: (). The additions have NumPy's order."""
        if entries.ndim > 1 or entries.size > PAIRWISE:
            return np.asarray(np.add.reduce(entries, axis=None) * scale)
        total = np.empty(1, entries.dtype)
        self.losses.scaled_sum[entries.dtype](contiguous(entries), scale, total)
        return total.reshape(())

    def soft_cross_entropy_forward(
        self, logits: Array, targets: Array, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        """-sum(targets * log_softmax(logits)) of each row, and the probabilities. Targets need not sum to 1."""
        probabilities, losses = output(out, logits), np.zeros(len(logits), logits.dtype)
        if logits.size:
            self.losses.soft_cross_entropy_forward[logits.dtype](
                contiguous(logits), contiguous(targets), losses, probabilities
            )
        return losses, probabilities

    def soft_cross_entropy_backward(
        self, scale: Array | float, probabilities: Array, targets: Array, *, out: Array | None = None
    ) -> Array:
        """(probabilities * sum(targets) - targets) * scale. `out` may be `probabilities`."""
        gradient, scales = output(out, probabilities), np.full(len(probabilities), scale, probabilities.dtype)
        self.losses.soft_cross_entropy_backward[probabilities.dtype](
            scales, contiguous(probabilities), contiguous(targets), gradient
        )
        return gradient


@AnyDtype
def cross_entropy_forward(
    x: Array, labels: Array, ignore: int, keep: float, spread: float, losses: Array, p: Array
) -> None:
    scalar, (rows, classes), counted = x.dtype.type, x.shape, labels != ignore
    every = np.logical_and.reduce(counted)
    where = row_starts(rows, classes) + (labels if every else np.where(counted, labels, 0))
    ones = constant(x.dtype, 1, classes)
    for span in spans(rows, rows_a_block(classes)):
        x_, e, loss = x[span], p[span], losses[span]
        if not narrow(x_):
            x_ = np.subtract(x_, row_maximum(x_), e)
        picked = x_.reshape(-1).take(where[span] - span.start * classes if span.start else where[span])
        if spread:
            picked = picked * scalar(keep) + (x_ @ ones) * scalar(spread)
        np.exp(x_, e)
        total = e @ ones
        np.log(total, loss)
        np.subtract(loss, picked, loss)
        np.reciprocal(total, total)
        np.multiply(e, total[:, None], e)
    if not every:
        losses[~counted] = 0


@AnyDtype
def cross_entropy_backward(
    scales: Array, p: Array, labels: Array, ignore: int, keep: float, spread: float, dx: Array
) -> None:
    scalar, (rows, classes), ignored = p.dtype.type, p.shape, labels == ignore
    where = row_starts(rows, classes) + labels
    if np.logical_or.reduce(ignored):
        scales, where = np.where(ignored, scalar(0), scales), row_starts(rows, classes) + np.where(ignored, 0, labels)
    for span in spans(rows, rows_a_block(classes)):
        d, factor = dx[span], scales[span, None]
        if spread:
            np.subtract(p[span], scalar(spread), d)
            np.multiply(d, factor, d)
        else:
            np.multiply(p[span], factor, d)
        d.reshape(-1)[where[span] - span.start * classes if span.start else where[span]] -= factor[:, 0] * scalar(keep)


@AnyDtype
def scaled_sum(entries: Array, scale: float, total: Array) -> None:
    total[0] = np.add.reduce(entries) * scale


@AnyDtype
def soft_cross_entropy_forward(x: Array, targets: Array, losses: Array, p: Array) -> None:
    rows, classes = x.shape
    ones = constant(x.dtype, 1, classes)
    for span in spans(rows, rows_a_block(classes)):
        e, t = p[span], targets[span]
        product = scratch(x.dtype, 0, e.shape)
        np.subtract(x[span], row_maximum(x[span]), e)
        picked = np.multiply(e, t, product) @ ones
        np.exp(e, e)
        total = e @ ones
        np.subtract(np.log(total) * (t @ ones), picked, losses[span])
        np.reciprocal(total, total)
        np.multiply(e, total[:, None], e)


@AnyDtype
def soft_cross_entropy_backward(scales: Array, p: Array, targets: Array, dx: Array) -> None:
    rows, classes = p.shape
    ones = constant(p.dtype, 1, classes)
    for span in spans(rows, rows_a_block(classes)):
        d, t = dx[span], targets[span]
        np.multiply(p[span], (t @ ones)[:, None], d)
        np.subtract(d, t, d)
        np.multiply(d, scales[span, None], d)


@lru_cache(maxsize=16)
def row_starts(rows: int, classes: int) -> Array:
    """Where each row of a flattened matrix starts; read-only, kept for the next call."""
    starts = np.arange(rows) * classes
    starts.flags.writeable = False
    return starts
