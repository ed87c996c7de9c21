"""Steps of optimizers in place over flat memory, with loops in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from allgrad.kernels.blocks import AnyDtype, Array, scratch, spans
from allgrad.kernels.portable_math import power


class Updates:
    updates: Any

    def adam(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        *,
        step: int,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        """One step t = `step` (from 1) of Adam (Kingma & Ba 2015) or, `decoupled`, AdamW (Loshchilov & Hutter 2019).

        m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).
        Weight decay adds wd p to g, or, decoupled, multiplies p by 1 - lr wd first. All four are one-dimensional.
        """
        self.updates.adam[p.dtype](p, g, m, v, step, lr, beta1, beta2, eps, weight_decay, decoupled)

    def sgd(
        self,
        p: Array,
        g: Array,
        buffer: Array | None,
        *,
        first: bool,
        lr: float,
        momentum: float,
        dampening: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        """One step of SGD as PyTorch defines it.

        d = g + wd p; u = mu u + (1 - dampening) d (u = d in the `first` step);
        p -= lr (d + mu u if nesterov else u). Without momentum `buffer` is None, and p -= lr d.
        """
        if buffer is None:
            self.updates.sgd[p.dtype](p, g, lr, weight_decay)
            return
        keep, take = (0.0, 1.0) if first else (momentum, 1 - dampening)
        self.updates.sgd_momentum[p.dtype](p, g, buffer, lr, weight_decay, keep, take, momentum, nesterov)


@AnyDtype
def adam(
    p: Array, g: Array, m: Array, v: Array, step: int, lr: float, beta1: float, beta2: float, eps: float,
    weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    """m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) is computed as m * rate / (sqrt(v) + eps'), which saves two passes."""
    scalar = p.dtype.type
    root = math.sqrt(1 - power(beta2, step))
    rate, small = scalar(lr * root / (1 - power(beta1, step))), scalar(eps * root)
    b1, b2, c1, c2 = scalar(beta1), scalar(beta2), scalar(1 - beta1), scalar(1 - beta2)
    shrink, decay = scalar(1 - lr * weight_decay), scalar(weight_decay)
    for span in spans(p.size):
        p_, g_, m_, v_ = p[span], g[span], m[span], v[span]
        a = scratch(p.dtype, 0, p_.shape)
        if weight_decay and not decoupled:
            sum_ = scratch(p.dtype, 1, p_.shape)
            np.multiply(p_, decay, sum_)
            g_ = np.add(g_, sum_, sum_)
        np.multiply(m_, b1, m_)
        np.multiply(g_, c1, a)
        np.add(m_, a, m_)
        np.multiply(g_, g_, a)
        np.multiply(a, c2, a)
        np.multiply(v_, b2, v_)
        np.add(v_, a, v_)
        np.sqrt(v_, a)
        np.add(a, small, a)
        np.divide(m_, a, a)
        np.multiply(a, rate, a)
        if weight_decay and decoupled:
            np.multiply(p_, shrink, p_)
        np.subtract(p_, a, p_)


@AnyDtype
def sgd(p: Array, g: Array, rate: float, decay: float) -> None:
    sgd_momentum(p, g, None, rate, decay, 0.0, 1.0, 0.0, False)


@AnyDtype
def sgd_momentum(
    p: Array, g: Array, u: Array | None, rate: float, decay: float, keep: float, take: float, mu: float, nesterov: bool
) -> None:
    scalar = p.dtype.type
    for span in spans(p.size):
        p_, d = p[span], g[span]
        a, b = scratch(p.dtype, 0, p_.shape), scratch(p.dtype, 1, p_.shape)
        if decay:
            np.multiply(p_, scalar(decay), b)
            d = np.add(d, b, b)
        if u is not None:
            u_ = u[span]
            if (keep, take) == (0, 1):
                u_[...] = d
            else:
                np.multiply(u_, scalar(keep), u_)
                np.add(u_, np.multiply(d, scalar(take), a), u_)
            d = np.add(d, np.multiply(u_, scalar(mu), a), a) if nesterov else u_
        np.subtract(p_, np.multiply(d, scalar(rate), a), p_)
