"""Max-pooling, channels-last, against PyTorch and by hand."""

import numpy as np
import pytest

CASES = [
    ((2, 8, 6, 3), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((2, 7, 9, 3), (2, 2), (2, 2), (0, 0), (1, 1)),
    ((1, 10, 10, 2), (3, 3), (2, 2), (1, 1), (1, 1)),
    ((3, 9, 8, 1), (3, 2), (1, 2), (1, 0), (1, 1)),
    ((1, 12, 12, 2), (2, 3), (2, 1), (1, 1), (3, 2)),
    ((2, 5, 5, 4), (2, 2), (3, 3), (0, 0), (1, 1)),
    ((1, 3, 3, 1), (3, 3), (1, 1), (0, 0), (1, 1)),
]


@pytest.mark.parametrize(("shape", "window", "stride", "padding", "dilation"), CASES)
@pytest.mark.parametrize("ties", [True, False])
def test_equals_torch(kernels, dtype, rng, shape, window, stride, padding, dilation, ties):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    x = rng.normal(size=shape).astype(dtype)
    if ties:
        x = np.round(x)
    leaf = torch.tensor(x.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    expected = torch.nn.functional.max_pool2d(leaf, window, stride, padding, dilation)
    y = kernels.max_pool_forward(x, window, stride, padding, dilation)
    np.testing.assert_array_equal(y, expected.detach().numpy().transpose(0, 2, 3, 1))
    g = rng.integers(-8, 8, size=y.shape).astype(dtype)  # whole numbers: sums of overlaps are exact in any order
    expected.backward(torch.tensor(g.transpose(0, 3, 1, 2).copy()))
    dx = kernels.max_pool_backward(g, x, y, window, stride, padding, dilation)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, leaf.grad.numpy().transpose(0, 2, 3, 1))
    full = np.full_like(x, np.nan)
    assert (kernels.max_pool_backward(g, x, y, window, stride, padding, dilation, out=full) == dx).all()


def test_ties_go_to_the_first(kernels, dtype):
    x, g = np.ones((1, 2, 2, 1), dtype), np.full((1, 1, 1, 1), 5, dtype)
    y = kernels.max_pool_forward(x, (2, 2), (2, 2))
    dx = kernels.max_pool_backward(g, x, y, (2, 2), (2, 2))
    assert dx.ravel().tolist() == [5, 0, 0, 0]


def test_nan_wins_its_window(kernels, dtype):
    x = np.arange(4 * 4 * 33, dtype=dtype).reshape(4, 2, 2, 33)
    for image, place in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        x[image, *place] = np.nan
    assert np.isnan(kernels.max_pool_forward(x, (2, 2), (2, 2))).all()
    padded = kernels.max_pool_forward(x, (2, 2), (1, 1), (1, 1))
    assert np.isnan(padded).sum() == 4 * 4 * 33  # each pixel is in four windows


@pytest.mark.parametrize("tile", [(2, 2), (1, 3), (3, 2)])
def test_tiles_are_pooled_and_their_gradient_goes_to_the_first_largest_pixel(kernels, dtype, rng, tile):
    raw = rng.integers(0, 3, (2, 7, 8, 19)).astype(dtype)  # with ties
    shape = (2, 7 // tile[0], 8 // tile[1], 19)
    out, winners = np.empty(shape, dtype), np.empty(shape, np.uint8)
    kernels.pool_tiles(raw, tile, out=out, winners=winners)
    inside = raw[:, : shape[1] * tile[0], : shape[2] * tile[1]]
    tiles = inside.reshape(2, shape[1], tile[0], shape[2], tile[1], 19).transpose(0, 1, 3, 5, 2, 4).reshape(*shape, -1)
    np.testing.assert_array_equal(out, tiles.max(-1))
    np.testing.assert_array_equal(winners, tiles.argmax(-1))
    g = rng.standard_normal(shape).astype(dtype)
    back = np.full(raw.shape, 7, dtype)
    kernels.unpool_tiles(g, tile, winners, out=back)
    expected = np.zeros_like(tiles)
    np.put_along_axis(expected, winners[..., None].astype(int), g[..., None], -1)
    whole = np.full(raw.shape, 7, dtype)
    whole[:, : inside.shape[1], : inside.shape[2]] = (
        expected.reshape(*shape, *tile).transpose(0, 1, 4, 2, 5, 3).reshape(inside.shape)
    )
    np.testing.assert_array_equal(back, whole)


def test_nan_wins_its_tile(kernels, dtype):
    raw = np.zeros((1, 2, 2, 3), dtype)
    raw[0, 0, 1, 0] = raw[0, 0, 0, 1] = raw[0, 1, 1, 2] = np.nan
    out, winners = np.empty((1, 1, 1, 3), dtype), np.empty((1, 1, 1, 3), np.uint8)
    kernels.pool_tiles(raw, (2, 2), out=out, winners=winners)
    assert np.isnan(out).all()
