"""Steps of optimizers, compiled: one pass over memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.jit import callee, per_dtype
from allgrad.kernels.portable_math import whole_power as _whole_power

whole_power = callee(_whole_power)


@per_dtype("w1 r1 w1 w1 n d d d d d b")
def adam(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    step: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    decoupled: Any,
) -> None:
    number = p.dtype.type
    root = np.sqrt(1 - whole_power(beta2, step))
    rate, small = number(lr * root / (1 - whole_power(beta1, step))), number(eps * root)
    b1, c1, b2, c2 = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    shrink = number(1 - lr * weight_decay if decoupled else 1.0)
    decay = number(0.0 if decoupled else weight_decay)
    for i in range(p.size):
        d = g[i] + decay * p[i]
        first = b1 * m[i] + c1 * d
        second = b2 * v[i] + c2 * (d * d)
        m[i] = first
        v[i] = second
        p[i] = shrink * p[i] - rate * (first / (np.sqrt(second) + small))


@per_dtype("w1 r1 s s")
def sgd(p: Any, g: Any, rate: Any, decay: Any) -> None:
    for i in range(p.size):
        p[i] = p[i] - rate * (g[i] + decay * p[i])


@per_dtype("w1 r1 w1 s s s s s b")
def sgd_momentum(p: Any, g: Any, u: Any, rate: Any, decay: Any, keep: Any, take: Any, mu: Any, nesterov: Any) -> None:
    for i in range(p.size):
        d = g[i] + decay * p[i]
        moved = keep * u[i] + take * d
        u[i] = moved
        p[i] = p[i] - rate * (d + mu * moved if nesterov else moved)
