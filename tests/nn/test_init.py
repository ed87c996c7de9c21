"""Initialisers: moments, bounds and determinism."""

from __future__ import annotations

import math

import numpy as np
import pytest

from allgrad.nn import init

SHAPE = (3, 3, 40, 50)
FAN_IN, FAN_OUT = 360, 450
STD = {
    "fan_in_uniform": math.sqrt(1 / (3 * FAN_IN)),
    "kaiming_uniform": math.sqrt(2 / FAN_IN),
    "kaiming_normal": math.sqrt(2 / FAN_IN),
    "xavier_uniform": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "xavier_normal": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "normal": 1.0,
    "uniform": 1 / math.sqrt(3),
    "truncated_normal": 0.8796,  # of a normal cut at two standard deviations
}


@pytest.mark.parametrize("name", STD)
def test_standard_deviation(name: str) -> None:
    w = init.by_name(name)(SHAPE, 0)
    assert w.dtype == np.float32
    assert abs(w.mean()) < 0.03 * STD[name]  # four standard errors
    assert w.std() == pytest.approx(STD[name], rel=0.02)


@pytest.mark.parametrize("name", sorted(init.INITIALIZERS))
def test_same_seed_same_bits_in_either_form(name: str) -> None:
    one = init.by_name(name)((6, 4), 3, dtype=np.float64)
    two = init.by_name(name)((6, 4), np.random.default_rng(3), dtype=np.float64)
    np.testing.assert_array_equal(one, two)
    assert one.dtype == np.float64


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (2, 3, 5)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal(shape, 0, gain=2.0, dtype=np.float64).reshape(-1, shape[-1])
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_truncated_normal_is_bounded() -> None:
    assert np.abs(init.truncated_normal((100, 100), 0, std=0.02, limit=1.5)).max() <= 0.03


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown initializer 'kaming'"):
        init.by_name("kaming")
    with pytest.raises(ValueError, match="unknown nonlinearity 'softsign'"):
        init.kaiming_normal((2, 2), 0, nonlinearity="softsign")
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        init.fan_in_uniform((3,), 0)
    with pytest.raises(TypeError, match="rng must be"):
        init.normal((3,), "seed")
