"""What follows a convolution while its result is still in cache: bias, activation, max-pooling; and their backward.

Pooling by tiles commutes with adding a bias and with a monotonic activation, since both keep order (`MONOTONIC` names those
for which a layer may promise pooling behind the activation). So the raw result is pooled first, and the rest works on the
small image. Of the large one only the winner's place in each tile is kept, a byte: the
result before pooling never exists as a whole. Among equal pixels the first in reading order wins, as in PyTorch.
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
    """Max-pooling by tiles, then an activation; either may be None."""

    activation: ActivationFunction | None = None
    pool: Pair | None = None

    def output(self, image: Pair) -> Pair:
        return image if self.pool is None else (image[0] // self.pool[0], image[1] // self.pool[1])


MONOTONIC = ("relu", "leaky_relu", "tanh", "sigmoid", "softplus", "elu")


def pool_tiles(raw: Array, tile: Pair, y: Array, winners: Array) -> None:
    """Write the largest pixel of each tile (samples, H, W, channels) to `y`, and its place to `winners` (bytes)."""
    for place, pixels in _places(raw, tile, y):
        if place == 0:
            np.copyto(y, pixels)
            winners[...] = 0
        else:
            # Places come in rising order, so the last one that was larger than all before it is the largest number too.
            won = np.greater(pixels, y).view(np.uint8)
            np.maximum(y, pixels, out=y)
            np.maximum(winners, np.multiply(won, np.uint8(place), out=won), out=winners)


def unpool_tiles(g: Array, tile: Pair, winners: Array, raw: Array) -> None:
    """Write the cotangent of the raw result to `raw`, whose pixels outside all tiles are 0 already."""
    share = np.empty_like(g)
    for place, pixels in _places(raw, tile, g):
        # A cast of bytes and a product: much faster than np.where.
        np.copyto(share, np.equal(winners, np.uint8(place)).view(np.uint8))
        np.multiply(share, g, out=pixels)


def _places(raw: Array, tile: Pair, pooled: Array) -> Iterator[tuple[int, Array]]:
    height, width = pooled.shape[1] * tile[0], pooled.shape[2] * tile[1]
    for i in range(tile[0]):
        for j in range(tile[1]):
            yield i * tile[1] + j, raw[:, i : height : tile[0], j : width : tile[1]]
