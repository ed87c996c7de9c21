"""Gradients of biases and embeddings."""

import numpy as np
import pytest


@pytest.mark.parametrize("shape", [(1, 1), (33, 5), (4, 6, 20), (2000, 129), (0, 3)])
def test_bias_gradient(kernels, dtype, close, rng, shape):
    g = rng.normal(size=shape).astype(dtype)
    expected = g.astype(float).reshape(-1, shape[-1]).sum(0)
    got = kernels.bias_gradient(g)
    # The error of a plain sum of n normal numbers has the standard deviation n eps / sqrt(24): each of its partial sums, of size
    # sqrt(k), is rounded by eps / sqrt(12) of it at most.
    np.testing.assert_allclose(got, expected, atol=max(1, expected.size and g.size // shape[-1]) * np.finfo(dtype).eps)
    out = np.full(shape[-1], np.nan, dtype)
    assert kernels.bias_gradient(g, out=out) is out
    assert (out == got).all()


@pytest.mark.parametrize("table", [1, 40, 256, 257, 5000])
@pytest.mark.parametrize("shape", [(0,), (1,), (7, 30), (600,)])
def test_embedding_gradient(kernels, dtype, rng, table, shape):
    indices = rng.integers(0, table, size=shape)
    g = rng.normal(size=(*shape, 9)).astype(dtype)
    expected = np.zeros((table, 9))
    np.add.at(expected, indices.ravel(), g.reshape(-1, 9).astype(float))
    out = np.full((table, 9), np.nan, dtype)
    assert kernels.embedding_gradient(g, indices, out=out) is out
    np.testing.assert_allclose(out, expected, atol=500 * np.finfo(dtype).eps)


@pytest.mark.parametrize("table", [50, 1000])
def test_embedding_gradient_bits(kernels, dtype, rng, shifted, table):
    indices = rng.integers(0, table, size=3000)
    g, like = rng.normal(size=(3000, 33)).astype(dtype), np.zeros((table, 33), dtype)
    results = {kernels.embedding_gradient(shifted(g, s), indices, out=shifted(like, s)).tobytes() for s in (0, 1, 9)}
    assert len(results) == 1
