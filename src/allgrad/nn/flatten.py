"""From images to rows of features, such that files load in PyTorch, whose images are flattened in another order."""

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
    """`Linear` on a flattened image: x (N, H, W, C) -> (N, out_features).

    We flatten height, width, channels; PyTorch flattens channels, height, width. This layer knows the image's shape, so that its
    weight on disk has PyTorch's order, and a file of `Flatten` and `Linear` there loads here, and the other way round.

    Args:
        image: (H, W, C).
        Others as `Linear`'s.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.FlatLinear((2, 2, 3), 5, rng=0)(np.ones((4, 2, 2, 3), np.float32)).shape
    (4, 5)
    """

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
    """The layout of a linear weight behind a flattened image: ours (H W C, out), PyTorch's (out, C H W)."""

    def to_torch(a: Array) -> Array:
        return a.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(-1, height * width * channels)

    def from_torch(a: Array) -> Array:
        return a.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(height * width * channels, -1)

    return TorchLayout(to_torch, from_torch)
