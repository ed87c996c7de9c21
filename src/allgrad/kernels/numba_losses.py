"""Cross-entropy from logits, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.jit import per_dtype
from allgrad.kernels.numba_math import decay, logarithm
from allgrad.kernels.numba_sums import row_maximum, row_product, row_sum


@per_dtype("r2 k n s s w1 w2")
def cross_entropy_forward(x: Any, labels: Any, ignore: Any, keep: Any, spread: Any, losses: Any, p: Any) -> None:
    for row in range(x.shape[0]):
        x_, p_, label = x[row], p[row], labels[row]
        largest = row_maximum(x_)
        for j in range(x_.size):
            p_[j] = x_[j] - largest
        counted = label != ignore
        picked = keep * p_[label if counted else 0]
        if spread != 0:
            picked += spread * row_sum(p_)
        for j in range(x_.size):
            p_[j] = decay(p_[j])
        total = row_sum(p_)
        losses[row] = logarithm(total) - picked if counted else x.dtype.type(0)
        scale = x.dtype.type(1) / total
        for j in range(x_.size):
            p_[j] *= scale


@per_dtype("r1 r2 k n s s w2")
def cross_entropy_backward(scales: Any, p: Any, labels: Any, ignore: Any, keep: Any, spread: Any, dx: Any) -> None:
    for row in range(p.shape[0]):
        p_, d_, label = p[row], dx[row], labels[row]
        scale = scales[row] if label != ignore else p.dtype.type(0)
        for j in range(p_.size):
            d_[j] = (p_[j] - spread) * scale
        if label != ignore:
            d_[label] -= keep * scale


@per_dtype("r1 s w1", references=True)
def scaled_sum(x: Any, scale: Any, total: Any) -> None:
    """The additions of `np.add.reduce`, whose call takes as long as the rest of the loss."""
    whole = x.size // 8 * 8
    sums = np.zeros(8, x.dtype)
    for i in range(0, whole, 8):
        for j in range(8):
            sums[j] += x[i + j]
    result = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    for i in range(whole, x.size):
        result += x[i]
    total[0] = result * scale


@per_dtype("r2 r2 w1 w2")
def soft_cross_entropy_forward(x: Any, targets: Any, losses: Any, p: Any) -> None:
    for row in range(x.shape[0]):
        x_, p_, t = x[row], p[row], targets[row]
        largest = row_maximum(x_)
        for j in range(x_.size):
            p_[j] = x_[j] - largest
        picked = row_product(p_, t)
        for j in range(x_.size):
            p_[j] = decay(p_[j])
        total = row_sum(p_)
        losses[row] = logarithm(total) * row_sum(t) - picked
        scale = x.dtype.type(1) / total
        for j in range(x_.size):
            p_[j] *= scale


@per_dtype("r1 r2 r2 w2")
def soft_cross_entropy_backward(scales: Any, p: Any, targets: Any, dx: Any) -> None:
    for row in range(p.shape[0]):
        p_, t, d_, scale = p[row], targets[row], dx[row], scales[row]
        mass = row_sum(t)
        for j in range(p_.size):
            d_[j] = (p_[j] * mass - t[j]) * scale
