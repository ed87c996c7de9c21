"""The compiled loops of `elementary`."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.jit import PerDtype
from allgrad.kernels.numba_math import constant, decay, logarithm


def _exp(x: Any, y: Any) -> None:
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for i in range(x.size):
        below = decay(-abs(x[i]))
        y[i] = one / below if x[i] > zero else below


def _log(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        value = logarithm(x[i])
        value = value if x[i] > zero else constant(x[i], "nan")
        y[i] = value if x[i] != zero else -np.inf


exp = PerDtype(_exp, "r1 w1")
log = PerDtype(_log, "r1 w1")
