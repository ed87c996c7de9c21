"""The epilogue of a convolution, which runs while the result is in cache: bias, activation, and max-pooling; and their backward.

Adding a bias and applying a monotonic activation (`MONOTONIC`) keep the order of numbers, so pooling by tiles can come first.
The raw result is pooled, and the rest works on the small image. The result before pooling never exists as a whole; only the
position of the largest pixel of each tile is kept, as one byte. Among equal pixels it is the first in reading order, as in
PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allgrad.nn.activations import ActivationFunction
    from allgrad.nn.convolution.algorithm import Array
    from allgrad.nn.convolution.geometry import Pair


class Epilogue(NamedTuple):
    """An activation, and max-pooling by tiles; either may be None."""

    activation: ActivationFunction | None = None
    pool: Pair | None = None

    def output(self, image: Pair) -> Pair:
        return image if self.pool is None else (image[0] // self.pool[0], image[1] // self.pool[1])


MONOTONIC = ("relu", "leaky_relu", "tanh", "sigmoid", "softplus", "elu")


def pool_tiles(raw: Array, tile: Pair, y: Array, winners: Array) -> None:
    """Write the largest pixel of each tile to `y` (samples, height, width, channels) and its position to `winners` (bytes)."""
    for place, pixels in _places(raw, tile, y):
        if place == 0:
            np.copyto(y, pixels)
            winners[...] = 0
        else:
            # Positions come in rising order, so the last one that was larger than all before it is the largest number.
            won = np.greater(pixels, y).view(np.uint8)
            np.maximum(y, pixels, out=y)
            np.maximum(winners, np.multiply(won, np.uint8(place), out=won), out=winners)


def unpool_tiles(g: Array, tile: Pair, winners: Array, raw: Array) -> None:
    """Write the cotangent of the raw result to `raw`, whose pixels outside of all tiles are already 0."""
    share = np.empty_like(g)
    for place, pixels in _places(raw, tile, g):
        # A cast of bytes and a product are much faster than np.where.
        np.copyto(share, np.equal(winners, np.uint8(place)).view(np.uint8))
        np.multiply(share, g, out=pixels)


def _places(raw: Array, tile: Pair, pooled: Array) -> Iterator[tuple[int, Array]]:
    height, width = pooled.shape[1] * tile[0], pooled.shape[2] * tile[1]
    for i in range(tile[0]):
        for j in range(tile[1]):
            yield i * tile[1] + j, raw[:, i : height : tile[0], j : width : tile[1]]
