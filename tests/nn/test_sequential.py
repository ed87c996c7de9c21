"""Sequential, ModuleList, Residual."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
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


IMAGES = np.random.default_rng(1).standard_normal((2, 9, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("between", "pool", "fused"),
    [
        ([nn.ReLU()], nn.MaxPool2d(2), True),
        ([], nn.MaxPool2d((3, 2)), True),
        ([nn.Tanh()], nn.MaxPool2d(2, 2), True),
        ([nn.GELU()], nn.MaxPool2d(2), False),
        ([nn.ReLU()], nn.MaxPool2d(3, 2), False),
        ([nn.ReLU()], nn.MaxPool2d(2, padding=1), False),
        ([nn.ReLU()], nn.MaxPool2d(2, ceil_mode=True), False),
        ([nn.ReLU()], nn.MaxPool2d(2, dilation=2), False),
        ([nn.ReLU()], nn.AvgPool2d(2), False),
    ],
)
def test_sequential_runs_pooling_by_tiles_inside_a_convolution(
    between: list[nn.Module], pool: nn.Module, fused: bool
) -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, rng=0)
    expected = conv(IMAGES)
    for module in (*between, pool):
        expected = module(expected)
    cotangent = np.random.default_rng(2).standard_normal(expected.shape).astype(np.float32)
    expected.backward(cotangent)
    gradients = [conv.weight.grad.copy(), conv.bias.grad.copy()]
    conv.weight.zero_grad()
    conv.bias.zero_grad()

    y = nn.Sequential(conv, *between, pool)(IMAGES)
    np.testing.assert_array_equal(y.value, expected.value)
    assert ag.Graph(y).text().count("max_pool") == (0 if fused or isinstance(pool, nn.AvgPool2d) else 1)
    y.backward(cotangent)
    for got, wanted in zip((conv.weight.grad, conv.bias.grad), gradients, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_convolution_that_pools_or_activates_keeps_its_own() -> None:
    own = nn.Conv2d(3, 4, 3, pool=2, activation="relu", rng=0)
    np.testing.assert_array_equal(nn.Sequential(own, nn.MaxPool2d(3))(IMAGES).value, nn.MaxPool2d(3)(own(IMAGES)).value)
    active = nn.Conv2d(3, 4, 3, activation="relu", rng=0)
    y = nn.Sequential(active, nn.Tanh(), nn.MaxPool2d(2))(IMAGES)
    np.testing.assert_array_equal(y.value, nn.MaxPool2d(2)(nn.Tanh()(active(IMAGES))).value)
    np.testing.assert_array_equal(
        nn.Sequential(active, nn.MaxPool2d(2))(IMAGES).value, nn.MaxPool2d(2)(active(IMAGES)).value
    )


def test_module_list_is_a_list() -> None:
    modules = nn.ModuleList([nn.ReLU(), nn.Tanh()])
    modules.append(nn.Sigmoid())
    assert len(modules) == 3
    assert isinstance(modules[-1], nn.Sigmoid)
    assert [type(m).__name__ for m in modules[:2]] == ["ReLU", "Tanh"]
    with pytest.raises(TypeError, match=r"can contain only modules\. Got int"):
        modules.append(3)


def test_residual() -> None:
    layer, short = nn.Linear(4, 4, rng=0), nn.Linear(4, 4, rng=1)
    np.testing.assert_array_equal(nn.Residual(layer)(X).value, X + layer(X).value)
    np.testing.assert_array_equal(nn.Residual(layer, short)(X).value, short(X).value + layer(X).value)
