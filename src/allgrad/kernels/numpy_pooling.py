"""Max-pooling over channels-last images, in NumPy: one pass over the whole image for each place in the window.

Ties go to the first place of the window in reading order, as in PyTorch. The backward finds the winner again by
comparison with the output, so the forward need not store indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels.blocks import Array, Pair, output

if TYPE_CHECKING:
    from collections.abc import Iterator


def max_pool_forward(
    x: Array, window: Pair, stride: Pair, padding: Pair = (0, 0), dilation: Pair = (1, 1), *, out: Array | None = None
) -> Array:
    """See `Kernels.max_pool_forward`."""
    y = output(out, x, pooled_shape(x.shape, window, stride, padding, dilation))
    first = True
    for here, there in _places(x.shape, y.shape, window, stride, padding, dilation):
        if first and there == (slice(0, y.shape[1]), slice(0, y.shape[2])):
            y[...] = x[:, here[0], here[1]]
        else:
            if first:
                y[...] = -np.inf
            part = y[:, there[0], there[1]]
            np.maximum(part, x[:, here[0], here[1]], out=part)
        first = False
    return y


def max_pool_backward(
    g: Array,
    x: Array,
    y: Array,
    window: Pair,
    stride: Pair,
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    *,
    out: Array | None = None,
) -> Array:
    """See `Kernels.max_pool_backward`."""
    dx = output(out, x)
    covered = (y.shape[1] * window[0], y.shape[2] * window[1])
    tiled = window == stride and padding == (0, 0) and dilation == (1, 1) and x.shape[1:3] == covered
    if not tiled:
        dx[...] = 0
    # One image at a time: its windows, masks and products stay in cache over all places.
    shape = (1, *x.shape[1:])
    places = list(_places(shape, y.shape, window, stride, padding, dilation))
    free = np.empty(y.shape[1:], bool)
    wins, share = np.empty_like(free), np.empty(y.shape[1:], x.dtype)
    for x_, y_, g_, d_ in zip(x, y, g, dx, strict=True):
        free[...] = True
        for here, there in places:
            won, part = wins[there], share[there]
            np.equal(x_[here], y_[there], out=won)
            np.logical_and(won, free[there], out=won)
            np.logical_xor(free[there], won, out=free[there])
            np.copyto(part, won.view(np.int8))  # a cast from int8 and a product: far faster than np.where
            if tiled:
                np.multiply(part, g_[there], out=d_[here])
            else:
                np.multiply(part, g_[there], out=part)
                np.add(d_[here], part, out=d_[here])
    return dx


def pooled_shape(
    shape: tuple[int, ...], window: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[int, int, int, int]:
    """Shape of the pooled image (floor mode).

    Raises:
        ValueError: if `shape` is not (batch, height, width, channels), a number is out of range, or no window fits.
    """
    if len(shape) != 4:
        raise ValueError(f"max_pool: expects (batch, height, width, channels). Got shape {shape} instead.")
    sides = []
    for axis in (0, 1):
        if window[axis] < 1 or stride[axis] < 1 or dilation[axis] < 1 or not 0 <= 2 * padding[axis] <= window[axis]:
            raise ValueError(
                f"max_pool: window {window}, stride {stride} and dilation {dilation} must be 1 or more, and padding "
                f"{padding} at most half of the window."
            )
        reach = dilation[axis] * (window[axis] - 1) + 1
        room = shape[1 + axis] + 2 * padding[axis] - reach
        if room < 0:
            raise ValueError(f"max_pool: a window that reaches over {reach} does not fit an image of shape {shape}.")
        sides.append(room // stride[axis] + 1)
    return shape[0], sides[0], sides[1], shape[3]


def _places(
    shape: tuple[int, ...], pooled: tuple[int, ...], window: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """For each place in the window, in reading order: the pixels there, and the outputs that have a pixel there."""
    for i in range(window[0]):
        rows = _line(shape[1], pooled[1], stride[0], i * dilation[0] - padding[0])
        for j in range(window[1]):
            columns = _line(shape[2], pooled[2], stride[1], j * dilation[1] - padding[1])
            if rows and columns:
                yield (rows[0], columns[0]), (rows[1], columns[1])


def _line(length: int, outputs: int, stride: int, shift: int) -> tuple[slice, slice] | None:
    """Output o looks at pixel o * stride + shift: the slices where that pixel exists."""
    first = max(0, -(shift // stride))
    last = min(outputs - 1, (length - 1 - shift) // stride)
    if last < first:
        return None
    return slice(first * stride + shift, last * stride + shift + 1, stride), slice(first, last + 1)


def pool_tiles(raw: Array, tile: Pair, *, out: Array, winners: Array) -> None:
    """See `Kernels.pool_tiles`."""
    for place, pixels in _places_in_tiles(raw, tile, out):
        if place == 0:
            np.copyto(out, pixels)
            winners[...] = 0
        else:
            # Positions come in rising order, so the last one that was larger than all before it is the largest number.
            won = np.greater(pixels, out).view(np.uint8)
            np.maximum(out, pixels, out=out)
            np.maximum(winners, np.multiply(won, np.uint8(place), out=won), out=winners)


def unpool_tiles(g: Array, tile: Pair, winners: Array, *, out: Array) -> None:
    """See `Kernels.unpool_tiles`."""
    share = np.empty_like(g)
    for place, pixels in _places_in_tiles(out, tile, g):
        # A cast of bytes and a product are much faster than np.where.
        np.copyto(share, np.equal(winners, np.uint8(place)).view(np.uint8))
        np.multiply(share, g, out=pixels)


def _places_in_tiles(raw: Array, tile: Pair, pooled: Array) -> Iterator[tuple[int, Array]]:
    height, width = pooled.shape[1] * tile[0], pooled.shape[2] * tile[1]
    for i in range(tile[0]):
        for j in range(tile[1]):
            yield i * tile[1] + j, raw[:, i : height : tile[0], j : width : tile[1]]
