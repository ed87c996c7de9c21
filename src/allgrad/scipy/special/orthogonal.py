"""Orthogonal polynomials by their argument and their real parameters, and associated Legendre functions (DLMF chapter 18).

The derivative of a polynomial of a classical family is one of a neighbouring family (DLMF 18.9.15 to 18.9.26). The degree is
not differentiated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.scipy.registry import ufunc
from allgrad.scipy.spectral import derivative_by


def _lower(family: Any, n: Any, *rest: Any) -> Any:
    """The polynomial of degree n - 1, which is 0 for n = 0."""
    n = np.asarray(getattr(n, "value", n))
    return np.where(n == 0, 0.0, family(np.where(n == 0, n, n - 1), *rest))


ufunc(
    "eval_jacobi",
    "n alpha beta x",
    alpha=derivative_by("alpha", sc.eval_jacobi, "n alpha beta x"),
    beta=derivative_by("beta", sc.eval_jacobi, "n alpha beta x"),
    x=lambda n, alpha, beta, x: (n + alpha + beta + 1) / 2 * _lower(sc.eval_jacobi, n, alpha + 1, beta + 1, x),
)
ufunc("eval_legendre", "n x", x=lambda n, x: (n + 1) / 2 * _lower(sc.eval_jacobi, n, 1.0, 1.0, x))
ufunc("eval_chebyt", "n x", x=lambda n, x: n * _lower(sc.eval_chebyu, n, x))
ufunc("eval_chebyu", "n x", x=lambda n, x: 2 * _lower(sc.eval_gegenbauer, n, 2.0, x))
ufunc("eval_chebyc", "n x", x=lambda n, x: n * _lower(sc.eval_chebys, n, x))
ufunc("eval_chebys", "n x", x=lambda n, x: _lower(sc.eval_gegenbauer, n, 2.0, x / 2))
ufunc(
    "eval_gegenbauer",
    "n alpha x",
    alpha=derivative_by("alpha", sc.eval_gegenbauer, "n alpha x"),
    x=lambda n, alpha, x: 2 * alpha * _lower(sc.eval_gegenbauer, n, alpha + 1, x),
)
ufunc("eval_laguerre", "n x", x=lambda n, x: -_lower(sc.eval_genlaguerre, n, 1.0, x))
ufunc(
    "eval_genlaguerre",
    "n alpha x",
    alpha=derivative_by("alpha", sc.eval_genlaguerre, "n alpha x"),
    x=lambda n, alpha, x: -_lower(sc.eval_genlaguerre, n, alpha + 1, x),
)
ufunc("eval_hermite", "n x", x=lambda n, x: 2 * n * _lower(sc.eval_hermite, n, x))
ufunc("eval_hermitenorm", "n x", x=lambda n, x: n * _lower(sc.eval_hermitenorm, n, x))

# Shifted to [0, 1].
ufunc("eval_sh_legendre", "n x", x=lambda n, x: (n + 1) * _lower(sc.eval_jacobi, n, 1.0, 1.0, 2 * x - 1))
ufunc("eval_sh_chebyt", "n x", x=lambda n, x: 2 * n * _lower(sc.eval_sh_chebyu, n, x))
ufunc("eval_sh_chebyu", "n x", x=lambda n, x: 4 * _lower(sc.eval_gegenbauer, n, 2.0, 2 * x - 1))
ufunc(
    "eval_sh_jacobi",
    "n p q x",
    p=derivative_by("p", sc.eval_sh_jacobi, "n p q x"),
    q=derivative_by("q", sc.eval_sh_jacobi, "n p q x"),
    x=lambda n, p, q, x: n * _lower(sc.eval_sh_jacobi, n, p + 2, q + 1, x),
)


def _associated_legendre(m: Any, v: Any, x: Any, ans: Any) -> Any:
    """DLMF 14.10.5: (1 - x^2) dP/dx = (m + v) P_(v-1) - v x P_v."""
    return ((m + v) * sc.lpmv(m, v - 1, x) - v * x * ans) / (1 - x * x)


ufunc("lpmv", "m v x", x=_associated_legendre)
