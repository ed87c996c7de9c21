"""The matrix product: one chain of fused multiply-adds per element, in every tile, shape, layout and number of rows."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the product is compiled by numba")

from allgrad.kernels.matmul.product import Product, host_tile
from allgrad.kernels.matmul.tiles import TILES, choose

# Every tile can run on every CPU: LLVM splits vectors that are longer than the CPU's registers.
PRODUCTS = {name: Product(tile) for name, tile in TILES.items()}


@pytest.fixture(params=TILES, scope="module")
def product(request):
    return PRODUCTS[request.param]


def chain(a, b):
    """The contract, written with NumPy: a sum over k in which each step rounds once."""
    total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        total = fused(a[:, k, None], b[None, k], total)
    return total


def fused(x, y, z):
    """x y + z of float32 numbers, rounded once: the product is exact in float64, and the sum is rounded to odd before the cast.

    Rounding to odd (Boldo & Melquiond, IEEE Trans. Comp. 57, 2008): where the float64 sum is not exact, its last bit is set. Then
    the rounding to float32 sees on which side of a tie the exact sum is.
    """
    p, z = x.astype(np.float64) * y, z.astype(np.float64)
    s = p + z
    back = s - p
    error = (p - (s - back)) + (z - back)  # exactly what the sum lost (Knuth's TwoSum)
    bits = np.broadcast_to(s, error.shape).copy().view(np.int64)
    toward_zero = (error != 0) & ((error > 0) != (s > 0)) & (s != 0)
    bits -= toward_zero  # the sum cut towards zero ...
    bits |= error != 0  # ... and made odd
    return bits.view(np.float64).astype(np.float32)


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def matrix(rng, rows, columns, dtype=np.float32):
    return rng.standard_normal((rows, columns)).astype(dtype)


def laid_out(values, layout):
    """The same matrix in rows, in columns, or as every other entry of a larger one, backwards."""
    if layout == "C":
        return values
    if layout == "F":
        return np.asfortranarray(values)
    room = np.full((2 * values.shape[0], 3 * values.shape[1]), np.nan, values.dtype)[::-2, ::3]
    room[...] = values
    return room


SHAPES = [(1, 1, 1), (6, 16, 16), (7, 5, 3), (13, 300, 33), (64, 257, 10), (100, 40, 65), (3, 9, 200), (200, 520, 17)]
SHAPES += [(75, 530, 97)]  # a column beside whole panels of each tile


def test_each_element_is_one_chain_of_fused_multiply_adds(product, rng):
    for rows, inner, columns in SHAPES:
        a, b = matrix(rng, rows, inner), matrix(rng, inner, columns)
        np.testing.assert_array_equal(product(a, b), chain(a, b), strict=True)


def test_the_reference_rounds_once():
    x = np.float32(1 + 2.0**-12)
    np.testing.assert_array_equal(fused(x[None], x[None], np.float32(-1)[None]), np.float32(2.0**-11 + 2.0**-24))
    tie = fused(np.float32([2.0**-24]), np.float32([1]), np.float32([1]))  # half a unit: to even
    above = fused(np.float32([2.0**-24 * (1 + 2.0**-20)]), np.float32([1 + 2.0**-20]), np.float32([1]))
    assert (tie[0], above[0]) == (1, np.float32(1 + 2.0**-23))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_tiles_give_the_same_bits_for_every_layout(rng, dtype):
    for rows, inner, columns in [*SHAPES, (30, 12, 2100), (400, 30, 20), (5, 30, 9000), (97, 130, 800)]:
        a, b = matrix(rng, rows, inner, dtype), matrix(rng, inner, columns, dtype)
        results = {
            digest(product(laid_out(a, a_layout), laid_out(b, b_layout)))
            for product, a_layout, b_layout in itertools.product(PRODUCTS.values(), "CFS", "CFS")
        }
        assert len(results) == 1, (rows, inner, columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_and_columns_do_not_depend_on_their_neighbours(product, rng, dtype):
    a, b = matrix(rng, 129, 70, dtype), matrix(rng, 70, 130, dtype)
    whole = product(a, b)
    for count in [*range(1, 41), 64, 100, 129]:
        start = (129 - count) // 2
        np.testing.assert_array_equal(product(a[start : start + count], b), whole[start : start + count])
        np.testing.assert_array_equal(product(a, b[:, start : start + count]), whole[:, start : start + count])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_within_the_error_bound_of_a_chain(product, rng, dtype):
    """|error| <= K u sum |a b| (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1)."""
    for rows, inner, columns in SHAPES:
        a, b = matrix(rng, rows, inner, dtype), matrix(rng, inner, columns, dtype)
        exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
        bound = 1.01 * inner * np.finfo(dtype).eps / 2 * (abs(a).astype(np.longdouble) @ abs(b).astype(np.longdouble))
        assert (abs(product(a, b) - exact) <= bound).all()


sizes = st.integers(0, 40)
layouts = st.sampled_from("CFS")


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(0, 80), inner=st.integers(0, 40) | st.integers(480, 560), columns=sizes | st.just(97),
       a_layout=layouts, b_layout=layouts, name=st.sampled_from(sorted(TILES)), double=st.booleans(), biased=st.booleans(),
       seed=st.integers(0, 99))  # fmt: skip
def test_any_shape_and_layout(rows, inner, columns, a_layout, b_layout, name, double, biased, seed):
    rng, dtype = np.random.default_rng(seed), np.float64 if double else np.float32
    # Small integers: every sum is exact, so NumPy's product is right to the last bit.
    a, b = (rng.integers(-9, 10, shape).astype(dtype) for shape in ((rows, inner), (inner, columns)))
    bias = rng.integers(-9, 10, columns).astype(dtype) if biased else None
    room = np.full((rows + 2, columns + 9), 7, dtype)
    out = room[1:-1, 4:-5]
    got = PRODUCTS[name](laid_out(a, a_layout), laid_out(b, b_layout), out=out, bias=bias)
    assert got is out
    np.testing.assert_array_equal(out, a @ b if bias is None else a @ b + bias)
    out[...] = 7
    assert (room == 7).all()  # nothing was written around it


def test_batches_broadcast_like_numpy(product, rng, dtype):
    for left, right in [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((2, 1), (1, 3)),
        ((), (4,)),
        ((2, 1, 3), (5, 1)),
        ((0, 2), (2,)),
    ]:
        a = rng.integers(-9, 10, (*left, 4, 5)).astype(dtype)
        b = rng.integers(-9, 10, (*right, 5, 6)).astype(dtype)
        np.testing.assert_array_equal(product(a, b), a @ b, strict=True)
    heads = rng.integers(-9, 10, (7, 4, 5)).astype(dtype).transpose(1, 0, 2)
    out = np.zeros((7, 4, 7), dtype).transpose(1, 0, 2)
    np.testing.assert_array_equal(product(heads, heads.swapaxes(1, 2), out=out), heads @ heads.swapaxes(1, 2))


def test_infinities_and_nans_propagate(product, dtype):
    a = np.array([[1, np.inf], [0, np.inf], [np.nan, 1], [1e-45, -0.0]], dtype)
    b = np.array([[1, 0, -np.inf], [2, 0, 1]], dtype)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(product(a, b), a @ b)


def test_out_may_overlap_the_arguments(product, rng, dtype):
    for view in (slice(None), slice(1, None)):
        room = rng.integers(-9, 10, (9, 9)).astype(dtype)
        a, b = room[:8, :8], room[view][:8, :8].T
        expected = a @ b
        np.testing.assert_array_equal(product(a, b, out=a), expected)
    stack = rng.integers(-9, 10, (3, 4, 4)).astype(dtype)
    expected = stack[:2] @ stack[:2]
    np.testing.assert_array_equal(product(stack[:2], stack[:2], out=stack[1:]), expected)
    a, b, out = (rng.integers(-9, 10, (3, 4, 4)).astype(dtype) for _ in range(3))
    bias = out[2, 1]
    expected = a @ b + bias
    np.testing.assert_array_equal(product(a, b, out=out, bias=bias), expected)


def test_memory_that_does_not_fit_is_copied(product, rng, dtype):
    a, b = (rng.integers(-9, 10, (5, 5)).astype(dtype) for _ in range(2))
    shifted = np.zeros(5 * 5 * dtype.itemsize + 1, np.uint8)[1:].view(dtype).reshape(5, 5)
    shifted[...] = a
    fields = np.zeros((5, 5), np.dtype([("tag", np.uint8), ("value", dtype)]))["value"]
    fields[...] = b
    np.testing.assert_array_equal(product(shifted, fields), a @ b)
    turned = np.zeros((5, 5), dtype).T
    np.testing.assert_array_equal(product(a, b, out=turned), a @ b)


def test_what_does_not_fit_is_refused(product):
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    with pytest.raises(TypeError, match=r"all float64\. Got float32, float64 instead"):
        product(a, b.astype(np.float64))
    with pytest.raises(TypeError, match="Got int64, int64 instead"):
        product(a.astype(np.int64), b.astype(np.int64))
    with pytest.raises(ValueError, match=r"\(\.\.\., inner, columns\). Got \(2, 3\) and \(2, 3\)"):
        product(a, a)
    with pytest.raises(ValueError, match=r"Got \(3,\) and \(3, 4\)"):
        product(a[0], b)
    with pytest.raises(ValueError, match=r"out must have shape \(2, 2, 4\). Got \(3, 2, 4\)"):
        product(np.stack([a, a]), b, out=np.empty((3, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"cannot broadcast the leading axes of \(2, 2, 3\) and \(3, 3, 4\)"):
        product(np.stack([a, a]), np.stack([b, b, b]))
    with pytest.raises(ValueError, match=r"out must have shape \(2, 4\). Got \(2, 3\)"):
        product(a, b, out=a)
    with pytest.raises(TypeError, match=r"Got >f4, >f4 instead"):
        product(a.astype(">f4"), b.astype(">f4"))
    fixed = np.zeros((2, 4), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match=r"out is read-only"):
        product(a, b, out=fixed)
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\). Got \(0,\)"):
        product(a, b, bias=a[0, :0])
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\). Got \(3,\)"):
        product(a, b, bias=a[0])


def test_tiles_are_chosen_by_the_cpu():
    assert choose("+avx512f,+avx2,+fma", "x86_64").name == "avx512"
    assert choose("-avx512f,+avx2,+fma", "x86_64").name == "avx2"
    assert choose("+avx2,-fma,+fma4", "x86_64") is None
    assert choose("", "aarch64").name == "neon"
    assert host_tile() is None or host_tile().name in TILES
