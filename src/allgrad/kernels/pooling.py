"""Max-pooling over channels-last images, with loops in NumPy: one pass over the whole image for each place in the window.

Ties go to the first place of the window in reading order, as in PyTorch. The backward finds the winner again by
comparison with the output, so the forward need not store indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels.blocks import AnyDtype, Array, Pair, contiguous, output
from allgrad.kernels.windows import count

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pooling:
    pooling: Any

    def max_pool_forward(
        self,
        x: Array,
        window: Pair,
        stride: Pair,
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        *,
        out: Array | None = None,
    ) -> Array:
        """Largest pixel of each window; x is (batch, height, width, channels), padding counts as -inf, floor mode."""
        rows, columns = (count(x.shape[1 + i], window[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
        y = output(out, x, (len(x), rows, columns, x.shape[3]))
        self.pooling.max_pool_forward[x.dtype](contiguous(x), *window, *stride, *padding, *dilation, y)
        return y

    def max_pool_backward(
        self,
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
        """Gradient for x. Among equal pixels of a window the first in reading order gets all, as in PyTorch."""
        dx = output(out, x)
        self.pooling.max_pool_backward[x.dtype](
            contiguous(g), contiguous(x), contiguous(y), *window, *stride, *padding, *dilation, dx
        )
        return dx

    def pool_tiles(self, raw: Array, tile: Pair, *, out: Array, winners: Array) -> None:
        """Largest pixel of each tile of `raw` (n, height, width, channels) to `out`, and its position in the tile to `winners`.

        Tiles do not overlap, and pixels beyond the last whole tile are left out. Positions count in reading order, as bytes; of
        equal pixels the first one wins. All arrays are C-contiguous.
        """
        self.pooling.pool_tiles[raw.dtype](raw, *tile, out, winners)

    def unpool_tiles(self, g: Array, tile: Pair, winners: Array, *, out: Array) -> None:
        """The cotangent of `raw`: g where it won and 0 in the rest of each tile. Pixels outside of all tiles are left alone."""
        self.pooling.unpool_tiles[g.dtype](contiguous(g), *tile, winners, out)


@AnyDtype
def max_pool_forward(
    x: Array, wh: int, ww: int, sh: int, sw: int, ph: int, pw: int, dh: int, dw: int, y: Array
) -> None:
    first = True
    for here, there in _places(x.shape, y.shape, (wh, ww), (sh, sw), (ph, pw), (dh, dw)):
        if first and there == (slice(0, y.shape[1]), slice(0, y.shape[2])):
            y[...] = x[:, here[0], here[1]]
        else:
            if first:
                y[...] = -np.inf
            part = y[:, there[0], there[1]]
            np.maximum(part, x[:, here[0], here[1]], out=part)
        first = False


@AnyDtype
def max_pool_backward(
    g: Array, x: Array, y: Array, wh: int, ww: int, sh: int, sw: int, ph: int, pw: int, dh: int, dw: int, dx: Array
) -> None:
    covered = (y.shape[1] * wh, y.shape[2] * ww)
    tiled = (wh, ww, ph, pw, dh, dw) == (sh, sw, 0, 0, 1, 1) and x.shape[1:3] == covered
    if not tiled:
        dx[...] = 0
    # One image at a time: its windows, masks and products stay in cache over all places.
    shape = (1, *x.shape[1:])
    places = list(_places(shape, y.shape, (wh, ww), (sh, sw), (ph, pw), (dh, dw)))
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


@AnyDtype
def pool_tiles(raw: Array, down: int, across: int, y: Array, winners: Array) -> None:
    for place, pixels in _places_in_tiles(raw, down, across, y):
        if place == 0:
            np.copyto(y, pixels)
            winners[...] = 0
        else:
            # Positions come in rising order, so the last one that was larger than all before it is the largest number.
            won = np.greater(pixels, y).view(np.uint8)
            np.maximum(y, pixels, out=y)
            np.maximum(winners, np.multiply(won, np.uint8(place), out=won), out=winners)


@AnyDtype
def unpool_tiles(g: Array, down: int, across: int, winners: Array, raw: Array) -> None:
    share = np.empty_like(g)
    for place, pixels in _places_in_tiles(raw, down, across, g):
        # A cast of bytes and a product are much faster than np.where.
        np.copyto(share, np.equal(winners, np.uint8(place)).view(np.uint8))
        np.multiply(share, g, out=pixels)


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


def _places_in_tiles(raw: Array, down: int, across: int, pooled: Array) -> Iterator[tuple[int, Array]]:
    height, width = pooled.shape[1] * down, pooled.shape[2] * across
    for i in range(down):
        for j in range(across):
            yield i * across + j, raw[:, i:height:down, j:width:across]
