"""Physics-informed networks: derivatives in the loss, right and trainable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.nn.models import PINN, partial


def make(dtype: Any = np.float64, **options: Any) -> PINN:
    return PINN([2, 8, 8, 1], bounds=[(0, 1), (-2, 2)], rng=0, dtype=dtype, **options)


@pytest.mark.parametrize("activation", ["tanh", "silu", "gelu"])
def test_partial_derivatives_by_differences(activation: str) -> None:
    model = make(activation=activation)
    x = np.random.default_rng(0).random((5, 2))
    h = 1e-3
    for axis in (0, 1):
        e = np.eye(2)[axis] * h
        u = [np.asarray(model(x + k * e).value) for k in (-2, -1, 0, 1, 2)]
        one = (u[0] - 8 * u[1] + 8 * u[3] - u[4]) / (12 * h)
        two = (-u[0] + 16 * u[1] - 30 * u[2] + 16 * u[3] - u[4]) / (12 * h * h)
        np.testing.assert_allclose(partial(model, axis)(x).value, one, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(partial(model, axis, order=2)(x).value, two, rtol=1e-5, atol=1e-6)


def residual_loss(model: PINN, x: Any) -> Any:
    """Of the heat equation u_t = u_xx."""
    r = partial(model, 1)(x) - partial(model, 0, order=2)(x)
    return np.mean(r * r)


def test_parameter_gradients_of_a_loss_with_derivatives_by_differences() -> None:
    model = make()
    x = np.random.default_rng(1).random((6, 2))
    residual_loss(model, x).backward()
    rng = np.random.default_rng(2)
    h = 1e-5
    for p in model.parameters():
        v, start = rng.standard_normal(p.shape), p.value.copy()
        values = []
        for sign in (1, -1):
            p.assign(start + sign * h * v)
            values.append(residual_loss(model, x).item())
        p.assign(start)
        got = 0.0 if p.grad is None else float(np.sum(p.grad * v))
        np.testing.assert_allclose(got, (values[0] - values[1]) / (2 * h), rtol=1e-5, atol=1e-8)


def test_it_learns_a_boundary_value_problem() -> None:
    """u'' = -sin x on (0, pi), u = 0 at both ends: u = sin x."""
    model = PINN([1, 16, 16, 1], bounds=[(0.0, np.pi)], rng=0, dtype=np.float64)
    inside = np.linspace(0, np.pi, 24)[1:-1, None]
    ends = np.array([[0.0], [np.pi]])
    moments = [(np.zeros(p.shape), np.zeros(p.shape)) for p in model.parameters()]
    for step in range(1, 301):
        model.zero_grad()
        residual = partial(model, 0, order=2)(inside) + np.sin(inside)
        edge = model(ends)
        (np.mean(residual * residual) + 10 * np.mean(edge * edge)).backward()
        for p, (m, v) in zip(model.parameters(), moments, strict=True):
            m += 0.1 * (p.grad - m)
            v += 0.001 * (p.grad**2 - v)
            p.assign(p.value - 0.01 * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8))
    error = np.abs(model(inside).value - np.sin(inside)).max()
    assert error < 0.02


def test_float32_stays_float32() -> None:
    model = make(np.float32)
    x = np.random.default_rng(0).random((3, 2)).astype(np.float32)
    loss = residual_loss(model, x)
    loss.backward()
    assert loss.dtype == np.float32
    assert all(p.grad is None or p.grad.dtype == np.float32 for p in model.parameters())


def test_bad_options_and_shapes() -> None:
    with pytest.raises(ValueError, match="smooth"):
        PINN([1, 4, 1], activation="relu", rng=0)
    with pytest.raises(ValueError, match="bounds"):
        PINN([2, 4, 1], bounds=[(0, 1)], rng=0)
    with pytest.raises(ValueError, match=r"\(n, 2\).*\(3,\)"):
        make()(np.zeros(3))
    with pytest.raises(ValueError, match="order"):
        partial(make(), 0, order=0)


def test_the_docstrings_example() -> None:
    model = nn.models.PINN([1, 32, 32, 1], bounds=[(0.0, 1.0)], rng=0, dtype=np.float64)
    x = np.random.default_rng(0).random((4, 1))
    residual = partial(model, 0, order=2)(x) + np.sin(x)
    np.mean(residual * residual).backward()
    assert isinstance(residual, ag.Tensor)
    assert np.isfinite(model.layers[0].weight.grad).all()
