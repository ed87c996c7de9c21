"""The epilogue of a convolution, which runs while the result is in cache: bias, activation, and max-pooling; and their backward.

Adding a bias and applying a monotonic activation (`MONOTONIC`) keep the order of numbers, so pooling by tiles can come first.
The raw result is pooled, and the rest works on the small image. The result before pooling never exists as a whole; only the
position of the largest pixel of each tile is kept, as one byte. Among equal pixels it is the first in reading order, as in
PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from allgrad.nn.activations import ActivationFunction
    from allgrad.nn.convolution.geometry import Pair


class Epilogue(NamedTuple):
    """An activation, and max-pooling by tiles; either may be None."""

    activation: ActivationFunction | None = None
    pool: Pair | None = None

    def output(self, image: Pair) -> Pair:
        return image if self.pool is None else (image[0] // self.pool[0], image[1] // self.pool[1])


MONOTONIC = ("relu", "leaky_relu", "tanh", "sigmoid", "softplus", "elu")
