"""Gradient clipping."""

import math

import numpy as np
import pytest

from allgrad.memory import flatten
from allgrad.optim import clip_norm, clip_value
from allgrad.optim.norms import BLOCK, sum_of_squares


@pytest.mark.parametrize("max_norm", [0.5, 1e6, 0.0])
def test_norm_equals_torch(leaves, give, rng, max_norm):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    ours = leaves(np.float32)
    flat = flatten(list(ours.items()))
    gradients = {n: rng.normal(size=t.shape).astype(np.float32) for n, t in ours.items()}
    give(ours, gradients)
    theirs = [torch.zeros(t.shape, requires_grad=True) for t in ours.values()]
    for t, g in zip(theirs, gradients.values(), strict=True):
        t.grad = torch.tensor(g.copy())
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert clip_norm(flat, max_norm) == pytest.approx(float(expected), rel=1e-5)
    for t, leaf in zip(theirs, ours.values(), strict=True):
        np.testing.assert_allclose(leaf.grad, t.grad.numpy(), rtol=1e-5, atol=1e-12)


def test_empty_gradients_do_not_count(leaves, give):
    ours = leaves()
    flat = flatten(list(ours.items()))
    give(ours, {"w": np.full((7, 5), 1.0), "b": np.full(5, 100.0)})
    ours["b"].zero_grad()
    assert clip_norm(flat, 1e9) == pytest.approx(math.sqrt(35))
    assert clip_norm(flat, 1e9, unused=("conv", "scale", "tall")) == pytest.approx(math.sqrt(35 + 50_000))
    clip_value(flat, 0.5)
    assert flat.grads["b"].max() == 100
    assert ours["w"].grad.max() == 0.5


def test_non_finite_gradients_stay_and_are_named(leaves, give):
    ours = leaves()
    flat = flatten(list(ours.items()))
    give(ours, {"w": np.ones((7, 5)), "b": np.array([1, 2, np.nan, 4, 5])})
    assert math.isnan(clip_norm(flat, 1.0))
    assert (ours["w"].grad == 1).all()
    with pytest.raises(FloatingPointError, match="the first gradient that is not finite is that of 'b'"):
        clip_norm(flat, 1.0, error_if_nonfinite=True)


def test_refusals(leaves):
    flat = flatten(list(leaves().items()))
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm must be 0 or more"):
            clip_norm(flat, wrong)
        with pytest.raises(ValueError, match="limit must be 0 or more"):
            clip_value(flat, wrong)


@pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK + 7])
def test_sum_of_squares_is_accurate_and_does_not_depend_on_addresses(rng, size):
    x = rng.normal(size=size).astype(np.float32)
    expected = float((x.astype(float) ** 2).sum())
    assert sum_of_squares(x) == pytest.approx(expected, rel=1e-6)
    moved = np.concatenate([x[:0], np.zeros(3, np.float32), x])[3:]
    assert sum_of_squares(moved) == sum_of_squares(x)
