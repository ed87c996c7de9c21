"""Transforms of tiles: both sets of kernels against sums written out, at borders that cut tiles."""

import numpy as np
import pytest

SHAPES = [(1, 6, 6, 1), (2, 9, 14, 16), (3, 5, 4, 19)]


def tile_of(x, image, corner, place, step, side):
    """One tile (side, side, channels), zeros outside of the image."""
    top, left = (step * at - start for at, start in zip(place, corner, strict=True))
    padded = np.pad(x[image], ((side, side), (side, side), (0, 0)))
    return padded[top + side : top + 2 * side, left + side : left + 2 * side]


def expected_tiles(x, matrix, corner, tiles, step):
    q = matrix.shape[1]
    places = [(i, *p) for i in range(len(x)) for p in np.ndindex(*tiles)]
    found = [np.einsum("ik,jl,klc->ijc", matrix, matrix, tile_of(x, i, corner, p, step, q)) for i, *p in places]
    return np.stack(found, 2).reshape(len(matrix) ** 2, len(places), x.shape[3])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sides", [(6, 6), (6, 4), (4, 6)])
@pytest.mark.parametrize("corner", [(0, 0), (1, 1), (2, 0)])
def test_both_ways(kernels, dtype, close, rng, shape, sides, corner):
    x, matrix = rng.standard_normal(shape), rng.standard_normal(sides)
    tiles = tuple(-(-(n + start) // 4) for n, start in zip(shape[1:3], corner, strict=True))
    exact = expected_tiles(x, matrix, corner, tiles, 4)
    out = np.full(exact.shape, np.nan, dtype)
    got = kernels.transform_tiles(x.astype(dtype), matrix.astype(dtype), corner, tiles, 4, out=out)
    assert got is out
    close(got, exact)
    # The way back is the transpose: sum(z * transform(x, m)) = sum(assemble(z, m') * x).
    z = rng.standard_normal(exact.shape).astype(dtype)
    back = kernels.assemble_tiles(
        z, np.ascontiguousarray(matrix.T, dtype), corner, tiles, 4, out=np.full(shape, np.nan, dtype)
    )
    expected = np.zeros(shape)
    for at in np.ndindex(*shape[:3]):
        one = np.zeros((*shape[:3], 1))
        one[at] = 1
        expected[at] = np.sum(z * expected_tiles(one, matrix, corner, tiles, 4), axis=(0, 1))
    close(back, expected)


def test_an_image_has_the_same_bits_in_any_batch(kernels, rng):
    if kernels.name == "numpy":
        pytest.skip("the NumPy kernels hand all tiles to BLAS in one product")
    x, matrix = rng.standard_normal((3, 8, 8, 20)).astype(np.float32), rng.standard_normal((6, 6)).astype(np.float32)
    whole = kernels.transform_tiles(x, matrix, (1, 1), (3, 3), 4, out=np.empty((36, 27, 20), np.float32))
    single = kernels.transform_tiles(x[1:2], matrix, (1, 1), (3, 3), 4, out=np.empty((36, 9, 20), np.float32))
    np.testing.assert_array_equal(whole[:, 9:18], single)
    images = kernels.assemble_tiles(whole, matrix, (1, 1), (3, 3), 4, out=np.empty_like(x))
    alone = kernels.assemble_tiles(single, matrix, (1, 1), (3, 3), 4, out=np.empty_like(x[:1]))
    np.testing.assert_array_equal(images[1:2], alone)
