"""Fused scaled-dot-product attention."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_derivatives

import allgrad as ag
from allgrad.nn.attention import Heads, attention_reference, packed_attention


def packed(heads: Heads, length: int, features: int = 4, batch: int = 3, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, length, heads.packed, features)).astype(dtype)


def padding(length: int, batch: int = 3) -> np.ndarray:
    padding_mask = np.zeros((batch, length), bool)
    padding_mask[1, -2:] = True
    padding_mask[2, :2] = True  # with causal: the first queries see nothing
    return padding_mask


@pytest.mark.parametrize("heads", [Heads(2, 2), Heads(4, 2), Heads(3, 1)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("features", [4, 48])  # above KEPT * features, probabilities are computed again in backward
@pytest.mark.parametrize("length", [1, 7, 64, 150])  # one block of queries, part of one, three
def test_fused_equals_reference(heads: Heads, causal: bool, padded: bool, length: int, features: int) -> None:
    padding_mask = padding(length) if padded and length > 1 else None
    options = {"heads": heads, "causal": causal, "padding_mask": padding_mask, "scale": 0.7}
    x = packed(heads, length, features)
    results = []
    for f in (packed_attention, lambda x, **o: attention_reference(x, **o, dropout=None)):
        t = ag.tensor(x, requires_grad=True)
        y = f(t, **options)
        np.sum(np.sin(y)).backward()
        results.append((y.value, t.grad))
    for a, b in zip(*results, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("heads", [Heads(2, 2), Heads(4, 2)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_derivatives(heads: Heads, causal: bool, padded: bool) -> None:
    padding_mask = padding(5, 2 + 1) if padded else None
    check_derivatives(
        lambda x: packed_attention(x, heads=heads, causal=causal, padding_mask=padding_mask, scale=0.7),
        [packed(heads, 5)],
    )


def test_huge_scores_stay_finite() -> None:
    heads = Heads(2, 2)
    t = ag.tensor(packed(heads, 6, dtype=np.float32) * 100, requires_grad=True)
    y = packed_attention(t, heads=heads, causal=True, padding_mask=None, scale=1.0)
    np.sum(y).backward()
    assert np.isfinite(y.value).all()
    assert np.isfinite(t.grad).all()


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    heads = Heads(2, 2)
    x = packed(heads, 6, dtype=np.float32)
    options = {"heads": heads, "causal": True, "padding_mask": None, "scale": 0.5}
    together = packed_attention(x, **options).value
    for b in range(3):
        np.testing.assert_array_equal(together[b : b + 1], packed_attention(x[b : b + 1], **options).value)


def test_query_that_sees_nothing_gives_zeros() -> None:
    heads = Heads(2, 2)
    y = packed_attention(packed(heads, 5), heads=heads, causal=True, padding_mask=padding(5), scale=1.0).value
    assert not y[2, :2].any()
    assert y[2, 2:].all()
