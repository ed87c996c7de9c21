"""Attention: both sets of kernels against the formula, and a sample's bits whatever else is in the batch."""

import numpy as np
import pytest


def reference(packed, query_heads, causal, padding_mask, scale):
    """softmax(scale q k^T) v in float64, head by head."""
    batch, length, heads, features = packed.shape
    key_heads = (heads - query_heads) // 2
    x, answer = packed.astype(np.float64), np.zeros((batch, length, query_heads, features))
    for b in range(batch):
        seen = np.tril(np.ones((length, length), bool)) if causal else np.ones((length, length), bool)
        if padding_mask is not None:
            seen = seen & ~padding_mask[b]
        for h in range(query_heads):
            at = query_heads + h * key_heads // query_heads
            scores = np.where(seen, scale * x[b, :, h] @ x[b, :, at].T, -np.inf)
            e = np.where(seen, np.exp(scores - scores.max(axis=1, initial=-1e30, keepdims=True)), 0)
            p = e / np.maximum(e.sum(axis=1, keepdims=True), 1e-300)
            answer[b, :, h] = p @ x[b, :, at + key_heads]
    return answer


def masks(batch, length):
    mask = np.zeros((batch, length), bool)
    mask[0, :2] = mask[-1, length // 2 :] = True
    return mask


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("heads", "queries"), [(6, 2), (8, 4), (6, 4)])
def test_forward_is_the_formula(kernels, dtype, close, rng, heads, queries, causal, padded):
    packed = rng.standard_normal((2, 130, heads, 6)).astype(dtype)
    mask = masks(2, 130) if padded else None
    expected = reference(packed, queries, causal, mask, 0.4)
    for keep in (True, False):
        got, kept = kernels.attention_forward(packed, queries, causal=causal, padding_mask=mask, scale=0.4, keep=keep)
        close(got, expected)
        assert (kept is not None) == keep


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_backward_with_and_without_kept_probabilities(kernels, rng, causal, padded):
    """Central differences in float64; `kept` may change no more than the rounding."""
    packed, g = rng.standard_normal((2, 70, 6, 3)), rng.standard_normal((2, 70, 4, 3))
    options = {"causal": causal, "padding_mask": masks(2, 70) if padded else None, "scale": 0.4}
    _, kept = kernels.attention_forward(packed, 4, keep=True, **options)
    gradient = kernels.attention_backward(g, packed, kept, 4, **options)
    np.testing.assert_allclose(
        kernels.attention_backward(g, packed, None, 4, **options), gradient, rtol=1e-12, atol=1e-13
    )
    for _ in range(3):
        direction = rng.standard_normal(packed.shape)
        high, low = (
            kernels.attention_forward(packed + s * 1e-6 * direction, 4, keep=False, **options)[0] for s in (1, -1)
        )
        assert np.sum(gradient * direction) == pytest.approx(np.sum(g * (high - low)) / 2e-6, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_a_sample_has_the_same_bits_in_any_batch(kernels, rng, causal):
    packed, g = (rng.standard_normal((5, 100, heads, 16)).astype(np.float32) for heads in (6, 2))
    options = {"causal": causal, "padding_mask": None, "scale": 0.25}

    def both(start, stop):
        y, kept = kernels.attention_forward(packed[start:stop], 2, keep=True, **options)
        return y, kernels.attention_backward(g[start:stop], packed[start:stop], kept, 2, **options)

    for whole, single in zip(both(0, 5), both(3, 4), strict=True):
        np.testing.assert_array_equal(whole[3:4], single)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("queries", [2, 4])
def test_dropout_is_torchs_formula_with_the_same_factors(kernels, rng, causal, keep, queries):
    torch = pytest.importorskip("torch", reason="the peer")
    length, keys, features = 130, 2, 5
    packed = rng.standard_normal((2, length, queries + 2 * keys, features))
    g, factors = (
        rng.standard_normal((2, length, queries, features)),
        2.0 * (rng.random((2, queries, length, length)) < 0.5),
    )
    options = {"causal": causal, "padding_mask": None, "scale": 0.4, "dropout": factors}
    y, kept = kernels.attention_forward(packed, queries, keep=keep, **options)
    gradient = kernels.attention_backward(g, packed, kept, queries, **options)

    x = torch.tensor(packed, requires_grad=True)
    q, k, v = x.transpose(1, 2).split((queries, keys, keys), 1)
    k, v = (part.repeat_interleave(queries // keys, 1) for part in (k, v))
    scores = 0.4 * q @ k.mT
    if causal:
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    expected = ((torch.softmax(scores, -1) * torch.tensor(factors)) @ v).transpose(1, 2)
    expected.backward(torch.tensor(g))
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-11, atol=1e-12)
