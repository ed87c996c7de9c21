"""Layer norm, RMS norm, group norm."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.nn.norm import group_norm, layer_norm, rms_norm


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def float32(*shape: int) -> np.ndarray:
    return (normal(*shape) * 3 + 1).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}, {"eps": 0.1}])
@pytest.mark.parametrize("shape", [(3, 6), (2, 3, 6), (6,)])
def test_layer_norm_equals_torch(options: dict, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    theirs = torch.nn.LayerNorm(
        6, eps=options.get("eps", 1e-5), elementwise_affine=options.get("affine", True), bias=options.get("bias", True)
    )
    steps = 0 if options.get("affine") is False else 10
    check_against_torch(nn.LayerNorm(6, **options), theirs, float32(*shape), steps=steps)


@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm_equals_torch(affine: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    theirs = torch.nn.RMSNorm(6, eps=1e-6, elementwise_affine=affine)
    check_against_torch(nn.RMSNorm(6, affine=affine), theirs, float32(2, 3, 6), steps=10 if affine else 0)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(4, 5, 3, 6), (4, 7, 6), (4, 6)])
def test_group_norm_equals_torch(groups: int, affine: bool, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    if groups == 6 and len(shape) == 2:
        groups = 1  # one value a group has no variance
    check_against_torch(
        nn.GroupNorm(groups, 6, affine=affine),
        torch.nn.GroupNorm(groups, 6, affine=affine),
        float32(*shape),
        to_torch=lambda a: np.moveaxis(a, -1, 1),
        steps=10 if affine else 0,
    )


@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_derivatives(weight: bool, bias: bool) -> None:
    arrays = [normal(4, 3, 6), *([normal(6, seed=1)] if weight else []), *([normal(6, seed=2)] if bias else [])]

    def filled(rest: tuple) -> tuple:
        rest = list(rest)
        return rest.pop(0) if weight else None, rest.pop(0) if bias else None

    check_derivatives(lambda x, *rest: layer_norm(x, *filled(rest), eps=1e-3), arrays)
    check_derivatives(lambda x, *rest: group_norm(x, *filled(rest), groups=2, eps=1e-3), arrays)
    if not bias:
        check_derivatives(lambda x, *rest: rms_norm(x, filled(rest)[0], eps=1e-3), arrays)


def test_gradients_go_into_bound_memory() -> None:
    for layer in (nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(2, 6)):
        x = float32(3, 4, 6)
        np.sum(layer(x) * x).backward()
        expected = {name: p.grad for name, p in layer.named_parameters()}
        layer.zero_grad()
        for p in layer.parameters():
            p.bind(grad=np.full(p.shape, np.nan, np.float32))
        np.sum(layer(x) * x).backward()
        for name, p in layer.named_parameters():
            np.testing.assert_array_equal(p.grad, expected[name])


def test_constant_rows_have_finite_gradients() -> None:
    x = ag.tensor(np.ones((2, 4), np.float32), requires_grad=True)
    np.sum(nn.LayerNorm(4)(x) * np.arange(4, dtype=np.float32)).backward()
    assert np.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (nn.LayerNorm(6), float32(3, 5), r"LayerNorm '0': expects .*\(\.\.\., 6\).* Got shape \(3, 5\)"),
        (nn.RMSNorm(6), normal(3, 6), r"RMSNorm '0': its parameters are float32.*float64"),
        (nn.GroupNorm(2, 6), float32(6), r"GroupNorm '0': expects \(batch, \.\.\., 6\)"),
        (nn.LayerNorm(6, affine=False), np.zeros((3, 6), int), "int64"),
    ],
)
def test_bad_input_is_named(layer, x, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        nn.Sequential(layer)(x)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="4 groups, 6 channels"):
        nn.GroupNorm(4, 6)
    with pytest.raises(ValueError, match="features must be 1 or more"):
        nn.LayerNorm(0)
