"""From images to rows of features, with files that load in PyTorch, which flattens images in another order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.nn.errors import InputError
from allgrad.nn.linear import Linear
from allgrad.nn.parameter import Array, TorchLayout

if TYPE_CHECKING:
    from allgrad.nn import init
    from allgrad.nn.activations import ActivationFunction


class FlatLinear(Linear):
    """`Linear` on a flattened image.

    x: (batch, height, width, channels) float; result: (batch, out_features) float. Images are flattened in the order height,
    width, channels; PyTorch's order is channels, height, width. This layer knows the shape of the image, so its weight is saved
    in PyTorch's order: weights of PyTorch's `Flatten` and `Linear` load here, and the other way round.

    Args:
        image: (height, width, channels).
        out_features: length of the last axis of the result.
        bias, activation, rng, dtype: see `Linear`.

    Raises:
        InputError: if an input is not a batch of such images.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.FlatLinear((2, 2, 3), 5, rng=0)(np.ones((4, 2, 2, 3), np.float32)).shape
    (4, 5)
    """

    rows_independent = True

    def __init__(
        self,
        image: tuple[int, int, int],
        out_features: int,
        *,
        bias: bool = True,
        activation: str | ActivationFunction | None = None,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__(math.prod(image), out_features, bias=bias, activation=activation, rng=rng, dtype=dtype)
        self.image = (image[0], image[1], image[2])
        self.weight.layout = flattened_image(*self.image)

    def with_activation(self, x: Any, activation: ActivationFunction | None) -> Any:
        if getattr(x, "dtype", None) != self.weight.dtype or x.shape[1:] != self.image:
            raise InputError(
                f"{self.where()}: expects {self.weight.dtype} images of shape (batch, {', '.join(map(str, self.image))}). "
                f"Got {getattr(x, 'dtype', type(x).__name__)} of shape {np.shape(x)} instead."
            )
        return super().with_activation(np.reshape(x, (x.shape[0], self.in_features)), activation)

    def extra_repr(self) -> str:
        return f"{self.image} = {super().extra_repr()}"


def flattened_image(height: int, width: int, channels: int) -> TorchLayout:
    """The layout of a linear weight after a flattened image: ours is (H W C, out), PyTorch's (out, C H W)."""

    def to_torch(a: Array) -> Array:
        return a.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(-1, height * width * channels)

    def from_torch(a: Array) -> Array:
        return a.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(height * width * channels, -1)

    return TorchLayout(to_torch, from_torch)
