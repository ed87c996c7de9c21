"""Elementary functions made of correctly rounded operations: their errors, against mpmath, and their special values."""

import math

import numpy as np
import pytest

from allgrad.kernels import portable_math as pm

mpmath = pytest.importorskip("mpmath", reason="the exact values come from mpmath")


def worst(function, exact, points, floor=0.0):
    """The largest error in units in the last place, where errors below `floor` count as none."""
    mpmath.mp.prec = 160
    values = function(points)
    errors = []
    for x, y in zip(points.tolist(), values.tolist(), strict=True):
        true = exact(mpmath.mpf(x))
        error = abs(mpmath.mpf(y) - true)
        errors.append(0.0 if error <= floor else float(error / mpmath.mpf(math.ulp(float(true)))))
    return max(errors)


rng = np.random.default_rng(3)
POINTS = {
    "exp": np.concatenate([rng.uniform(-700, 700, 400), rng.uniform(-2, 2, 400), [1e-300, -1e-17]]),
    "expm1": np.concatenate([rng.uniform(-30, 300, 200), rng.uniform(-1, 1, 400), [1e-300, -1e-17]]),
    "log": np.concatenate([np.exp(rng.uniform(-700, 700, 400)), rng.uniform(0.5, 2, 400), 1 + rng.uniform(-1e-9, 1e-9, 50)]),
    "log1p": np.concatenate([np.exp(rng.uniform(-80, 80, 300)), rng.uniform(-0.99, 1, 400)]),
    "sin": np.concatenate([rng.uniform(-1e6, 1e6, 300), rng.uniform(-7, 7, 500)]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "limit"), [("exp", 2), ("log", 2), ("log1p", 2), ("expm1", 5)])
def test_within_a_few_units_in_the_last_place(name, limit):
    assert worst(getattr(pm, name), getattr(mpmath, name), POINTS[name]) <= limit


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sine_and_cosine(name):
    assert worst(getattr(pm, name), getattr(mpmath, name), POINTS["sin"], floor=1e-16) <= 2


def test_special_values():
    assert pm.exp(np.array([-np.inf, np.inf, -1000.0, 1000.0])).tolist() == [0, np.inf, 0, np.inf]
    assert pm.log(np.array([0.0, np.inf])).tolist() == [-np.inf, np.inf]
    assert np.isnan(pm.log(np.array([-1.0, np.nan]))).all()
    assert np.isnan(pm.exp(np.nan))
    assert pm.log1p(np.array([-1.0])).tolist() == [-np.inf]
    with pytest.raises(ValueError, match="angles up to"):
        pm.sin(1e7)


def test_powers():
    assert pm.power(0.999, 1300) == pytest.approx(0.999**1300, rel=1e-13)
    assert pm.power(2.0, -3) == 0.125
    assert pm.power(10000.0, -np.arange(4) / 4) == pytest.approx(10000.0 ** (-np.arange(4) / 4), rel=1e-14)


def test_normal_numbers():
    drawn = pm.normal(np.random.default_rng(0), (201, 501))
    assert drawn.shape == (201, 501)
    assert abs(drawn.mean()) < 0.02
    assert drawn.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(drawn) > 1.959964).mean() == pytest.approx(0.05, abs=0.004)
    assert abs(np.corrcoef(drawn.reshape(-1)[:-1], drawn.reshape(-1)[1:])[0, 1]) < 0.015
