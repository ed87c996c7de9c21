"""Gradients of biases and embeddings, and sums worker by worker: the bits of one product per worker, added like on a stack."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allgrad.comm.tree import plan_block
from allgrad.kernels.numba_kernels import kernels as numba_kernels
from allgrad.kernels.numpy_kernels import kernels as numpy_kernels

KERNELS = pytest.mark.parametrize("kernels", [numba_kernels, numpy_kernels], ids=["numba", "numpy"])


def program(counts):
    """The plan of one rank that runs all workers, and the table of the kernels."""
    plan = plan_block(range(len(counts)), len(counts))
    assert plan.order == tuple(range(len(counts)))
    return plan, np.array([counts, [len(pairs) for pairs in plan.merges]]).T.copy()


def added(plan, ones):
    """The workers' sums, added as the reducer adds arenas."""
    arenas = [np.empty_like(ones[0]) for _ in range(plan.arrays)]
    for position, worker in enumerate(plan.order):
        arenas[plan.writes[position]][...] = ones[worker]
        for left, right in plan.merges[position]:
            arenas[left] += arenas[right]
    return arenas[plan.slots[0]]


@KERNELS
@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=9),
    m=st.integers(1, 90),
    n=st.integers(1, 70),
    dtype=st.sampled_from([np.float32, np.float64]),
    transposed=st.booleans(),
    seed=st.integers(0, 9),
)
def test_bits(kernels, counts, m, n, dtype, transposed, seed):
    rng = np.random.default_rng(seed)
    rows = sum(counts)
    a, b = rng.standard_normal((rows, m)).astype(dtype), rng.standard_normal((rows, n)).astype(dtype)
    a = np.asfortranarray(a) if transposed else a
    edges = np.array([0, *np.cumsum(counts)])
    plan, segments = program(counts)
    spans = [slice(edges[i], edges[i + 1]) for i in range(len(counts))]
    out = np.full((m, n), np.nan, dtype)
    kernels.product_by_worker(a, b, segments, out=out)
    expected = added(plan, [kernels.matmul(a[span].T, b[span]) for span in spans])
    assert out.tobytes() == expected.tobytes()
    out = np.full(n, np.nan, dtype)
    kernels.sum_by_worker(b, segments, out=out)
    assert out.tobytes() == added(plan, [kernels.bias_gradient(b[span]) for span in spans]).tobytes()
    each = kernels.product_of_each_worker(a, b, edges)
    assert each.tobytes() == b"".join(kernels.matmul(a[span].T, b[span]).tobytes() for span in spans)
    each = kernels.sum_of_each_worker(b, edges)
    assert each.tobytes() == b"".join(kernels.bias_gradient(b[span]).tobytes() for span in spans)


@KERNELS
@pytest.mark.parametrize("rows", [64, 1200])
def test_large_products(kernels, rows):
    """Several blocks of the result, and of the sum."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((rows, 150), np.float32), rng.standard_normal((rows, 300), np.float32)
    edges = np.arange(5) * (rows // 4)
    plan, segments = program([rows // 4] * 4)
    out = kernels.product_by_worker(a, b, segments, out=np.empty((150, 300), np.float32))
    ones = [kernels.matmul(a[i:j].T, b[i:j]) for i, j in pairwise(edges)]
    assert out.tobytes() == added(plan, ones).tobytes()


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


@KERNELS
def test_operands_that_share_memory_with_the_result_or_have_odd_strides(kernels):
    rng = np.random.default_rng(0)
    edges = np.array([0, 2, 6])
    _, segments = program([2, 4])
    memory = rng.standard_normal(64).astype(np.float32)
    a, out = memory[:24].reshape(6, 4), memory[20:36].reshape(4, 4)
    records = np.zeros(6, [("flag", "u1"), ("row", np.float32, 4)])
    records["row"] = rng.standard_normal((6, 4))
    b = records["row"]
    assert b.strides[0] % b.itemsize
    expected = kernels.matmul(a[:2].T, b[:2].copy()) + kernels.matmul(a[2:].T, b[2:].copy())
    each = kernels.product_of_each_worker(a, b, edges)
    kernels.product_by_worker(a, b, segments, out=out)
    assert out.tobytes() == expected.tobytes() == (each[0] + each[1]).tobytes()
