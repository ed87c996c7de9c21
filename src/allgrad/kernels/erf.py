"""The error function without SciPy, to double precision.

Source: W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation 23 (1969),
631-637, whose three rational forms (|x| <= 0.46875, up to 4, above) hold to 18 digits; the coefficients are that
paper's. exp(-x^2) is taken as exp(-h^2) exp(-(x - h)(x + h)) with h = x cut to 1/16, as Cody advises: squaring x first
would lose digits in the tail.
"""

from __future__ import annotations

import math

import numpy as np

from allgrad.kernels.blocks import BLOCK, Array, output, spans
from allgrad.kernels.portable_math import exp

# erf(x) = x P(x^2) / Q(x^2) for |x| <= 0.46875; highest power first.
_NEAR_P = (
    1.85777706184603153e-1,
    3.16112374387056560e00,
    1.13864154151050156e02,
    3.77485237685302021e02,
    3.20937758913846947e03,
)
_NEAR_Q = (1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
# erfc(x) = exp(-x^2) P(x) / Q(x) for 0.46875 <= x <= 4.
_MIDDLE_P = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e00,
    6.61191906371416295e01,
    2.98635138197400131e02,
    8.81952221241769090e02,
    1.71204761263407058e03,
    2.05107837782607147e03,
    1.23033935479799725e03,
)
_MIDDLE_Q = (
    1.0,
    1.57449261107098347e01,
    1.17693950891312499e02,
    5.37181101862009858e02,
    1.62138957456669019e03,
    3.29079923573345963e03,
    4.36261909014324716e03,
    3.43936767414372164e03,
    1.23033935480374942e03,
)
# erfc(x) = exp(-x^2) / x (1 / sqrt(pi) - P(1 / x^2) / Q(1 / x^2) / x^2) for x > 4.
_FAR_P = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_FAR_Q = (
    1.0,
    2.56852019228982242e00,
    1.87295284992346725e00,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)
_FURTHEST = 27.0
"""erfc is 0 in double precision from here on."""


def erf(x: Array, *, out: Array | None = None) -> Array:
    """The error function, right to about one unit in the last place in float64 and in float32.

    Args:
        x: float32 or float64, any shape.
        out: where the result belongs; may be `x`.

    Example:
        >>> import numpy as np
        >>> from allgrad.kernels.erf import erf
        >>> erf(np.array([0.0, 0.5, -1.0])).round(6).tolist()
        [0.0, 0.5205, -0.842701]
    """
    y = output(out, x)
    source, target = np.ascontiguousarray(x).reshape(-1), y.reshape(-1)
    for span in spans(source.size, BLOCK):
        a = source[span].astype(np.float64)
        near = np.abs(a) <= 0.46875
        result = np.sign(a) * (1 - erfc_positive(np.abs(a)))
        result[near] = a[near] * _ratio(_NEAR_P, _NEAR_Q, a[near] ** 2)
        target[span] = result
    return y


def erfc_positive(x: Array) -> Array:
    """1 - erf(x) for float64 x >= 0 (one dimension), to a few units in the last place all along the tail."""
    result = np.where(np.isnan(x), x, 0.0)
    near, middle, far = x <= 0.46875, (x > 0.46875) & (x <= 4), (x > 4) & (x < _FURTHEST)
    if near.any():
        z = x[near]
        result[near] = 1 - z * _ratio(_NEAR_P, _NEAR_Q, z * z)
    if middle.any():
        z = x[middle]
        result[middle] = _gauss(z) * _ratio(_MIDDLE_P, _MIDDLE_Q, z)
    if far.any():
        z = x[far]
        w = 1 / (z * z)
        result[far] = _gauss(z) * (1 / math.sqrt(math.pi) - w * _ratio(_FAR_P, _FAR_Q, w)) / z
    return result


def _gauss(x: Array) -> Array:
    head = np.trunc(x * 16) / 16
    return np.asarray(exp(-head * head) * exp(-(x - head) * (x + head)))


def _ratio(numerator: tuple[float, ...], denominator: tuple[float, ...], x: Array) -> Array:
    return _polynomial(numerator, x) / _polynomial(denominator, x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value
