"""Exponentials, logarithms, trigonometry in degrees, entropies, transformations of data and losses.

Sources: DLMF chapter 4 for the elementary functions, otherwise the definition in SciPy's documentation. At a point of the
domain's boundary where a derivative is infinite (entr at 0) it is infinite, and a zero cotangent stays zero.
"""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.numpy.singular import quotient
from allgrad.scipy.registry import constant_ufunc, ufunc

DEGREE = pi / 180

ufunc("cbrt", "x", x=lambda ans: quotient(1.0, 3 * ans * ans))
ufunc("exp2", "x", x=lambda ans: ans * log(2))
ufunc("exp10", "x", x=lambda ans: ans * log(10))
ufunc("expm1", "x", x=lambda ans: ans + 1)
ufunc("log1p", "x", x=lambda x: quotient(1.0, 1 + x))
ufunc("cosm1", "x", x=lambda x: -np.sin(x))
ufunc("powm1", "x y", x=lambda x, y: y * np.power(x, y - 1), y=lambda x, ans: (ans + 1) * np.log(x))
# exprel(x) = 1F1(1; 2; x), and d/dx 1F1(a; b; x) = a/b 1F1(a + 1; b + 1; x), DLMF 13.3.15.
ufunc("exprel", "x", x=lambda x: sc.hyp1f1(2.0, 3.0, x) / 2)

ufunc("sindg", "x", x=lambda x: DEGREE * sc.cosdg(x))
ufunc("cosdg", "x", x=lambda x: -DEGREE * sc.sindg(x))
ufunc("tandg", "x", x=lambda ans: DEGREE * (1 + ans * ans))
ufunc("cotdg", "x", x=lambda ans: -DEGREE * (1 + ans * ans))
ufunc("radian", "d m s", d=lambda d: DEGREE + 0 * d, m=lambda m: DEGREE / 60 + 0 * m, s=lambda s: DEGREE / 3600 + 0 * s)
constant_ufunc("round")

# Entropies and products with logarithms.
ufunc("entr", "x", x=lambda x: np.where(x < 0, 0.0, -np.log(x) - 1))
ufunc("rel_entr", "x y", x=lambda x, y: np.log(quotient(x, y)) + 1, y=lambda x, y: -quotient(x, y))
ufunc("kl_div", "x y", x=lambda x, y: np.log(quotient(x, y)), y=lambda x, y: 1 - quotient(x, y))
ufunc("xlogy", "x y", x=lambda y: np.log(y), y=lambda x, y: quotient(x, y))
ufunc("xlog1py", "x y", x=lambda y: np.log1p(y), y=lambda x, y: quotient(x, 1 + y))

# Sigmoids.
ufunc("expit", "x", x=lambda x, ans: ans * sc.expit(-x))
ufunc("logit", "x", x=lambda x: quotient(1.0, x) + quotient(1.0, 1 - x))
ufunc("log_expit", "x", x=lambda x: sc.expit(-x))


# Box and Cox: (x^p - 1) / p = L exprel(p L) with L = log x, which is smooth through p = 0.


def _box_cox_power(logarithm: Any, power: Any) -> Any:
    return logarithm * logarithm * sc.hyp1f1(2.0, 3.0, power * logarithm) / 2


def _inverse_power(y: Any, power: Any) -> Any:
    """d/dp of log(1 + p y) / p = y 2F1(1, 1; 2; -p y)."""
    return -y * y * sc.hyp2f1(2.0, 2.0, 3.0, -power * y) / 2


ufunc("boxcox", "x p", x=lambda x, p: np.power(x, p - 1), p=lambda x, p: _box_cox_power(np.log(x), p))
ufunc("boxcox1p", "x p", x=lambda x, p: np.power(1 + x, p - 1), p=lambda x, p: _box_cox_power(np.log1p(x), p))
ufunc("inv_boxcox", "y p", y=lambda ans, y, p: ans / (1 + p * y), p=lambda ans, y, p: ans * _inverse_power(y, p))
ufunc(
    "inv_boxcox1p",
    "y p",
    y=lambda ans, y, p: (ans + 1) / (1 + p * y),
    p=lambda ans, y, p: (ans + 1) * _inverse_power(y, p),
)

# Losses. At the kink of huber's second derivative, |r| = delta, np.clip's convention holds.
ufunc(
    "huber",
    "delta r",
    delta=lambda delta, r: np.maximum(np.abs(r) - delta, 0.0),
    r=lambda delta, r: np.clip(r, -delta, delta),
)


def _root(delta: Any, r: Any) -> Any:
    return np.sqrt(1 + (r / delta) ** 2)


ufunc(
    "pseudo_huber",
    "delta r",
    delta=lambda delta, r: 2 * delta * (_root(delta, r) - 1) - r * r / (delta * _root(delta, r)),
    r=lambda delta, r: r / _root(delta, r),
)
