"""Elementary functions in float64 with the same bits on every CPU, for what runs outside of the compiled kernels.

They serve the preparation of data, initial weights, rotary tables, and learning-rate schedules. NumPy's own `exp`, `log`, `sin`
and `cos` choose their code by the CPU, and those of the C library differ between its versions. Here a function is a fixed
sequence of additions, multiplications, divisions and square roots, each of which IEEE 754 rounds correctly, so any kernel set,
any NumPy and any CPU give one result. They cost about thirty passes over an array, which is walked in blocks.

* log(x) = k log 2 + log(m), with log(1 + f) = f - (f^2/2 - s (f^2/2 + R(s^2))), s = f / (2 + f);
* exp(x) = 2^k exp(r) with r = x - k log 2 in two steps (Cody and Waite), and exp's Taylor polynomial;
* sin and cos from r = x - n pi/2 in three steps, and their Taylor polynomials.

Results are within 2 units in the last place of the exact value (expm1: 5; sin and cos: or within 1e-16), for any float64 argument
of exp and log, and for |x| up to `LARGEST_ANGLE` in sin and cos (`tests/kernels/test_portable_math.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels.blocks import spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.kernels.blocks import Array

__all__ = ["LARGEST_ANGLE", "cos", "exp", "expm1", "log", "log1p", "normal", "power", "sin"]

LARGEST_ANGLE = 1e6
"""Beyond it, the three parts of pi/2 no longer suffice."""

# Splits whose first parts have trailing zeros, so that a product with a small whole number is exact.
_LOG2_HIGH, _LOG2_LOW = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
_HALF_PI = (
    float.fromhex("0x1.921fb54400000p+0"),
    float.fromhex("0x1.0b4611a600000p-34"),
    float.fromhex("0x1.3198a2e037073p-69"),
)
_EXP = tuple(1 / math.factorial(n) for n in range(13, 1, -1))
_LOG = tuple(2 / (2 * n + 1) for n in range(11, 0, -1))
_SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(8, 0, -1))
_COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(8, 1, -1))


def _blockwise(function: Callable[[Array], Array]) -> Callable[[Any], Any]:
    """`function` of flat float64 arrays, for numbers and arrays of any shape, block by block."""

    def call(x: Any) -> Any:
        given = np.asarray(x, np.float64)
        flat = given.reshape(-1)
        out = np.empty(flat.shape)
        with np.errstate(all="ignore"):
            for span in spans(flat.size, 8192):
                out[span] = function(flat[span])
        return out.reshape(given.shape) if given.ndim else float(out[0])

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """By Horner's rule, highest power first."""
    total = np.full(x.shape, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


@_blockwise
def exp(x: Array) -> Array:
    """e^x; of a number a float, of an array (any shape) an array of float64.

    >>> exp(0.0), round(exp(1.0), 12)
    (1.0, 2.718281828459)
    """
    k = np.rint(np.clip(x, -800.0, 800.0) * 1.4426950408889634)
    r = (x - k * _LOG2_HIGH) - k * _LOG2_LOW
    value = np.ldexp(1.0 + (r + r * r * _polynomial(r, _EXP)), np.where(np.isnan(k), 0, k).astype(np.int32))
    return np.where(x > 710.0, np.inf, np.where(x < -746.0, 0.0, value))


@_blockwise
def expm1(x: Array) -> Array:
    """e^x - 1, also for small x.

    >>> expm1(1e-20), round(expm1(1.0), 12)
    (1e-20, 1.718281828459)
    """
    small = np.abs(x) < 0.35
    r = np.where(small, x, 0.0)
    return np.asarray(np.where(small, r + r * r * _polynomial(r, _EXP), exp(x) - 1.0))


@_blockwise
def log(x: Array) -> Array:
    """The natural logarithm; -inf at 0, NaN below.

    >>> log(1.0), round(log(10.0), 12)
    (0.0, 2.302585092994)
    """
    m, k = np.frexp(x)
    low = m < math.sqrt(0.5)
    m, power = np.where(low, 2 * m, m), k - low
    f = m - 1.0
    s = f / (2.0 + f)
    square, half = s * s, 0.5 * f * f
    rest = square * _polynomial(square, _LOG)
    value = power * _LOG2_HIGH + (f - (half - (s * (half + rest) + power * _LOG2_LOW)))
    value = np.where(x == np.inf, np.inf, np.where(x == 0, -np.inf, value))
    value[x < 0] = np.nan
    return np.asarray(value)


@_blockwise
def log1p(x: Array) -> Array:
    """log(1 + x), also for small x.

    >>> log1p(1e-20), round(log1p(1.0), 12)
    (1e-20, 0.69314718056)
    """
    u = 1.0 + x
    rest = np.where((u > 0) & (u < np.inf), (x - (u - 1.0)) / u, 0.0)
    return np.asarray(log(u) + rest)


@_blockwise
def sin(x: Array) -> Array:
    """The sine of an angle in radians, |x| <= `LARGEST_ANGLE`.

    >>> sin(0.0), round(sin(1.0), 12)
    (0.0, 0.841470984808)
    """
    return _turned(x, 0)


@_blockwise
def cos(x: Array) -> Array:
    """The cosine of an angle in radians, |x| <= `LARGEST_ANGLE`.

    >>> cos(0.0), round(cos(1.0), 12)
    (1.0, 0.540302305868)
    """
    return _turned(x, 1)


def _turned(x: Array, quarters: int) -> Array:
    """sin(x + quarters pi / 2)."""
    if np.abs(x).max(initial=0) > LARGEST_ANGLE:
        raise ValueError(f"sin and cos are made for angles up to {LARGEST_ANGLE:g}. Got {np.abs(x).max()} instead.")
    n = np.rint(x * (2 / math.pi))
    first = x - n * _HALF_PI[0]
    r = first - n * _HALF_PI[1]
    lost = ((first - r) - n * _HALF_PI[1]) - n * _HALF_PI[2]  # what r lacks
    square = r * r
    sine = r + (r * square * _polynomial(square, _SIN) + lost * (1.0 - 0.5 * square))
    cosine = 1.0 - (0.5 * square - (square * square * _polynomial(square, _COS) - lost * (r - r * square / 6.0)))
    quadrant = (np.where(np.isnan(n), 0, n).astype(np.int64) + quarters) % 4
    value = np.where(quadrant % 2 == 0, sine, cosine)
    return np.where(quadrant >= 2, -value, value)


def power(base: Any, exponent: Any) -> Any:
    """base^exponent for base > 0. Whole exponents up to 2^31 of a number by repeated squaring, others by exp and log.

    The relative error grows with the size of exponent log(base): about 1e-16 times it.

    >>> power(0.5, 3), round(power(2.0, 0.5), 12)
    (0.125, 1.414213562373)
    """
    if isinstance(base, int | float) and isinstance(exponent, int | float) and exponent == int(exponent):
        return whole_power(float(base), int(exponent))
    return exp(exponent * log(base))


def whole_power(base: float, exponent: int) -> float:
    """`power` of two numbers, in the subset of Python that numba compiles."""
    result, factor, left = 1.0, base, abs(exponent)
    while left:
        if left & 1:
            result *= factor
        factor *= factor
        left >>= 1
    return result if exponent >= 0 else 1 / result


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers of this shape, float64, from the generator's uniform numbers (Box and Muller, 1958).

    NumPy's own `standard_normal` calls the C library for one number in a hundred.

    >>> normal(np.random.Generator(np.random.Philox(1)), (2, 3)).shape
    (2, 3)
    """
    count = math.prod(shape)
    pairs = generator.random((2, (count + 1) // 2))
    radius, angle = np.sqrt(-2.0 * log(1.0 - pairs[0])), (2 * math.pi) * pairs[1]
    return np.concatenate([radius * cos(angle), radius * sin(angle)])[:count].reshape(shape)
