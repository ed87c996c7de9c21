"""Softmax and causal softmax."""

import numpy as np
import pytest

SHAPES = [(1, 1), (5, 3), (4, 6, 65), (300, 130), (2, 40_000)]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(kernels, dtype, close, rng, shape):
    x, g = (rng.normal(0, 3, size=shape).astype(dtype) for _ in range(2))
    y = kernels.softmax_forward(x)
    expected = softmax(x.astype(float))
    close(y, expected)
    dx = kernels.softmax_backward(g, y, scale=0.5)
    g64 = g.astype(float)
    close(dx, 0.5 * expected * (g64 - (g64 * expected).sum(-1, keepdims=True)), 128)
    assert (kernels.softmax_forward(x, out=x) == y).all()
    assert (kernels.softmax_backward(g, y, scale=0.5, out=g) == dx).all()


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (3, 9), (130, 130), (64, 65)])
def test_causal_softmax(kernels, dtype, close, rng, queries, keys):
    x = rng.normal(0, 3, size=(2, 3, queries, keys)).astype(dtype)
    y = kernels.causal_softmax_forward(x, scale=0.3)
    hidden = np.arange(keys)[None] > np.arange(queries)[:, None] + keys - queries
    close(y, softmax(np.where(hidden, -np.inf, 0.3 * x.astype(float))))
    assert (y[..., hidden] == 0).all()
    assert (kernels.causal_softmax_forward(x, scale=0.3, out=x) == y).all()


def test_more_queries_than_keys_is_refused(kernels):
    with pytest.raises(ValueError, match="at least as many keys as queries"):
        kernels.causal_softmax_forward(np.zeros((3, 2)))


def test_large_and_masked_scores(kernels, dtype):
    x = np.array([[1e4, 1e4, -1e4], [-np.inf, 0.0, -np.inf], [-3e38, -3e38, -3e38]], dtype)
    y = kernels.softmax_forward(x)
    np.testing.assert_allclose(y, [[0.5, 0.5, 0], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


def test_nan_stays_in_its_row(kernels, dtype):
    x = np.zeros((3, 70), dtype)
    x[1, 69] = np.nan
    y = kernels.softmax_forward(x)
    assert np.isnan(y[1]).all()
    assert not np.isnan(y[[0, 2]]).any()


def test_non_contiguous_input(kernels, dtype, rng):
    x = rng.normal(size=(6, 10)).astype(dtype)
    assert (kernels.softmax_forward(np.asfortranarray(x)) == kernels.softmax_forward(x)).all()


def test_bits_do_not_depend_on_addresses(kernels, dtype, rng, shifted):
    x, g = (rng.normal(size=(4, 65, 65)).astype(dtype) for _ in range(2))
    results = set()
    for shift in (0, 1, 7):
        y = kernels.softmax_forward(shifted(x, shift))
        c = kernels.causal_softmax_forward(shifted(x, shift))
        dx = kernels.softmax_backward(shifted(g, shift), shifted(y, shift))
        results.add(b"".join(a.tobytes() for a in (y, c, dx)))
    assert len(results) == 1
