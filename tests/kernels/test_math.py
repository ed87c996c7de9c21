"""Elementary functions and sums of the compiled loops: accuracy against higher precision, special values, the order of sums.

ALLGRAD_ALL_FLOATS=1 checks every float32 number; otherwise a stride of them.
"""

import os

import numpy as np
import pytest

pytest.importorskip("numba", reason="these functions exist in compiled loops only")

from numba.extending import register_jitable

from allgrad.kernels import numba_math, numba_sums
from allgrad.kernels.jit import compiled

STRIDE = 1 if os.environ.get("ALLGRAD_ALL_FLOATS") else 1009  # a prime, so that all exponents and low bits occur
CHUNK = 1 << 22
pytestmark = [pytest.mark.timeout(3600)] if STRIDE == 1 else []


def loop_of(function):
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    return compiled(loop)


@register_jitable
def tail_of(x):
    return numba_math.normal_tail(x, numba_math.gauss(x))


FUNCTIONS = {
    "exp": (numba_math.decay, np.exp, -87.3, 0.0),
    "expm1": (numba_math.decay_minus_one, np.expm1, -np.inf, 0.0),
    "log": (numba_math.logarithm, np.log, np.finfo(np.float32).tiny, np.inf),
    "log1p": (numba_math.log_one_plus, np.log1p, 0.0, 1.0),
    "tanh": (numba_math.hyperbolic_tangent, np.tanh, -np.inf, np.inf),
}


def all_float32(low, high):
    """Every STRIDE-th finite float32 from low to high, in pieces."""
    for start in range(0, 1 << 32, CHUNK * STRIDE):
        bits = np.arange(start, min(start + CHUNK * STRIDE, 1 << 32), STRIDE, dtype=np.uint64).astype(np.uint32)
        x = bits.view(np.float32)
        with np.errstate(invalid="ignore"):
            x = x[(x >= low) & (x <= high) & np.isfinite(x)]
        if x.size:
            yield x


def ulps(got, exact):
    """Distance in units in the last place of the exact value; subnormal results count against the smallest normal one."""
    size = np.maximum(np.abs(exact), np.finfo(got.dtype).tiny).astype(got.dtype)
    return np.abs(got - exact) / np.spacing(size)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_is_within_two_units_of_float64(name):
    function, exact, low, high = FUNCTIONS[name]
    loop, worst = loop_of(function), 0.0
    for x in all_float32(low, high):
        y = np.empty_like(x)
        loop(x, y)
        worst = max(worst, ulps(y, exact(x.astype(np.float64))).max())
    assert worst <= 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_is_within_two_units_of_mpmath(name, rng):
    mpmath = pytest.importorskip("mpmath", reason="the reference in more than double precision")
    function, _, low, high = FUNCTIONS[name]
    x = np.concatenate([10 ** rng.uniform(-12, 2.8, 1500), rng.uniform(0, 3, 1500), 1 + rng.normal(size=300) * 1e-6])
    x = np.concatenate([x, -x])
    x = x[(x >= max(low, -700)) & (x <= high)]
    y = np.empty_like(x)
    loop_of(function)(x, y)
    with mpmath.workdps(40):
        exact = {
            "exp": mpmath.exp,
            "expm1": mpmath.expm1,
            "log": mpmath.log,
            "log1p": mpmath.log1p,
            "tanh": mpmath.tanh,
        }
        errors = [
            abs(mpmath.mpf(b) - exact[name](mpmath.mpf(a))) / np.spacing(abs(b)) for a, b in zip(x, y, strict=True)
        ]
    assert max(errors) <= 2


def test_the_normal_tail_is_within_four_epsilons(dtype, rng):
    mpmath = pytest.importorskip("mpmath", reason="the reference in more than double precision")
    x = rng.uniform(0, 13 if dtype == np.float32 else 37, 3000).astype(dtype)
    y = np.empty_like(x)
    loop_of(tail_of)(x, y)
    with mpmath.workdps(40):
        errors = [
            abs(mpmath.mpf(float(b)) / (mpmath.erfc(mpmath.mpf(float(a)) / mpmath.sqrt(2)) / 2) - 1)
            for a, b in zip(x, y, strict=True)
            if b > np.finfo(dtype).tiny * 1e3
        ]
    assert len(errors) > 2500
    assert max(errors) <= 4 * np.finfo(dtype).eps


def test_special_values(dtype):
    def at(function, *values):
        x = np.array(values, dtype)
        y = np.empty_like(x)
        loop_of(function)(x, y)
        return y.tolist()

    nan = pytest.approx(np.nan, nan_ok=True)
    assert at(numba_math.decay, 0, -0.0, -np.inf, -1e30, np.nan) == [1, 1, 0, 0, nan]
    assert at(numba_math.decay_minus_one, 0, -np.inf, np.nan) == [0, -1, nan]
    assert at(numba_math.logarithm, 1, np.inf, np.nan) == [0, np.inf, nan]
    assert at(numba_math.hyperbolic_tangent, 0, np.inf, -np.inf, 1e30, np.nan) == [0, 1, -1, 1, nan]
    assert at(tail_of, 0, np.inf, 1e30, np.nan) == [pytest.approx(0.5, rel=float(4 * np.finfo(dtype).eps)), 0, 0, nan]


def lanes(x, step, merge, start):
    """The documented order, written with NumPy."""
    count = numba_sums.BYTES // x.dtype.itemsize
    total = np.full(count, start, x.dtype)
    for first in range(0, x.size, count):
        part = x[first : first + count]
        total[: part.size] = step(total[: part.size], part)
    while count > 1:
        count //= 2
        total = merge(total[:count], total[count:])
    return total[0]


@compiled
def sums(x, y):
    return (
        numba_sums.row_sum(x),
        numba_sums.row_maximum(x),
        numba_sums.row_product(x, y),
        numba_sums.row_squares(x, x[0]),
    )


def test_sums_go_through_fixed_lanes(dtype, rng):
    for size in (1, 2, 15, 16, 31, 32, 33, 100, 1000):
        x, y = rng.normal(size=(2, size)).astype(dtype)
        total, largest, product, squares = sums(x, y)
        assert total == lanes(x, np.add, np.add, 0)
        assert largest == x.max()
        exact = x.astype(np.longdouble)
        assert abs(product - exact @ y) <= size * np.finfo(dtype).eps * (abs(exact) @ abs(y))
        np.testing.assert_allclose(squares, ((exact - x[0]) ** 2).sum(), rtol=size * np.finfo(dtype).eps)
