"""A convolutional network for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.nn import init
from allgrad.nn.conv import Conv2d
from allgrad.nn.dropout import Dropout
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.flatten import FlatLinear
from allgrad.nn.linear import Linear
from allgrad.nn.module import Module
from allgrad.nn.sequential import ModuleList

if TYPE_CHECKING:
    from collections.abc import Sequence


class CNN(Module):
    """Convolutions with ReLU and max-pooling, then a hidden linear layer and the classes.

    x: (batch, height, width, channels) float, or (batch, height, width) for one channel; result (logits): (batch, classes) float.
    By default: conv 3x3 (32), ReLU, conv 3x3 (64), ReLU, max-pooling 2x2, flatten, linear (128), ReLU, linear (10).

    Args:
        image: (height, width, channels).
        classes: number of logits.
        channels: output channels of each convolution.
        pool: size of the max-pooling tiles after each convolution; 1 for none.
        kernel_size: of all convolutions; they keep the size of the image.
        hidden: length of the vector between the two linear layers.
        dropout: probability in training, before each linear layer.
        rng: source of the initial numbers.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError, InputTypeError: if an input has the wrong shape or dtype.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.models.CNN(rng=0)(np.zeros((5, 28, 28), np.float32)).shape
    (5, 10)
    """

    rows_independent = True

    def __init__(
        self,
        image: tuple[int, int, int] = (28, 28, 1),
        classes: int = 10,
        *,
        channels: Sequence[int] = (32, 64),
        pool: Sequence[int] = (1, 2),
        kernel_size: int = 3,
        hidden: int = 128,
        dropout: float = 0.0,
        rng: init.Rng = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if len(channels) != len(pool) or not channels:
            raise LayerOptionError(
                f"CNN: channels and pool must have one entry per convolution. Got {channels} and {pool} instead."
            )
        rng = init.generator(rng)
        height, width, inner = image
        self.image = tuple(image)
        self.convs = ModuleList()
        for outer, tile in zip(channels, pool, strict=True):
            self.convs.append(
                Conv2d(
                    inner,
                    outer,
                    kernel_size,
                    padding="same",
                    activation="relu",
                    pool=tile if tile > 1 else None,
                    rng=rng,
                    dtype=dtype,
                )
            )
            height, width, inner = height // tile, width // tile, outer
        self.dropout = Dropout(dropout)
        self.hidden = FlatLinear((height, width, inner), hidden, activation="relu", rng=rng, dtype=dtype)
        self.head = Linear(hidden, classes, rng=rng, dtype=dtype)

    def forward(self, x: Any) -> Any:
        if self.image[2] == 1 and x.ndim == 3:
            x = np.reshape(x, (*x.shape, 1))
        if x.shape[1:] != self.image:
            raise InputError(f"{self.where()}: expects images (batch, *{self.image}). Got shape {x.shape} instead.")
        for conv in self.convs:
            x = conv(x)
        return self.head(self.dropout(self.hidden(self.dropout(x))))
