"""Sequential, ModuleList, Residual."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad import nn

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def test_sequential_runs_an_activation_inside_the_layer_before_it() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4, rng=0), nn.ReLU(), nn.Tanh(), nn.Linear(4, 2, activation="relu", rng=1), nn.ReLU()
    )
    first, _, _, last, _ = model
    expected = np.maximum(
        np.tanh(np.maximum(X @ first.weight.value + first.bias.value, 0)) @ last.weight.value + last.bias.value, 0
    )
    y = model(X)
    np.testing.assert_allclose(y.value, expected, rtol=1e-6)
    np.sum(y).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert list(model.state_dict()) == ["0.weight", "0.bias", "3.weight", "3.bias"]


def test_sequential_ends_with_a_linear_layer_or_is_empty() -> None:
    layer = nn.Linear(4, 2, rng=0)
    np.testing.assert_array_equal(nn.Sequential(layer)(X).value, layer(X).value)
    assert nn.Sequential()(X) is X


def test_sequential_goes_on_with_what_is_no_activation() -> None:
    layer, norm = nn.Linear(4, 2, rng=0), nn.LayerNorm(2)
    np.testing.assert_array_equal(nn.Sequential(layer, norm)(X).value, norm(layer(X)).value)


def test_module_list_is_a_list() -> None:
    modules = nn.ModuleList([nn.ReLU(), nn.Tanh()])
    modules.append(nn.Sigmoid())
    assert len(modules) == 3
    assert isinstance(modules[-1], nn.Sigmoid)
    assert [type(m).__name__ for m in modules[:2]] == ["ReLU", "Tanh"]
    with pytest.raises(TypeError, match=r"holds modules\. Got int"):
        modules.append(3)


def test_residual() -> None:
    layer, short = nn.Linear(4, 4, rng=0), nn.Linear(4, 4, rng=1)
    np.testing.assert_array_equal(nn.Residual(layer)(X).value, X + layer(X).value)
    np.testing.assert_array_equal(nn.Residual(layer, short)(X).value, short(X).value + layer(X).value)
