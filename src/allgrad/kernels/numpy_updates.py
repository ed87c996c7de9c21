"""Optimizer steps in place over flat memory, in NumPy."""

from __future__ import annotations

import math

import numpy as np

from allgrad.kernels.blocks import Array, scratch, spans
from allgrad.kernels.portable_math import power


def adam(
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
    """See `Kernels.adam`.

    m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) is computed as m * rate / (sqrt(v) + eps'), which saves two passes.
    """
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


def sgd(
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
    """See `Kernels.sgd`."""
    scalar = p.dtype.type
    rate, mu, take, decay = scalar(lr), scalar(momentum), scalar(1 - dampening), scalar(weight_decay)
    for span in spans(p.size):
        p_, d = p[span], g[span]
        a, b = scratch(p.dtype, 0, p_.shape), scratch(p.dtype, 1, p_.shape)
        if weight_decay:
            np.multiply(p_, decay, b)
            d = np.add(d, b, b)
        if buffer is not None:
            u = buffer[span]
            if first:
                u[...] = d
            else:
                np.multiply(u, mu, u)
                np.add(u, np.multiply(d, take, a), u)
            d = np.add(d, np.multiply(u, mu, a), a) if nesterov else u
        np.subtract(p_, np.multiply(d, rate, a), p_)
