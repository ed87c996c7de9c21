"""Depthwise kernels, one channel per group: a sum of image times weight over the entries of the kernel, no matrix product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels import active
from allgrad.nn.convolution.algorithm import Algorithm, Array
from allgrad.nn.convolution.padded_images import PaddedImages, place
from allgrad.nn.gradients import write_gradient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allgrad.nn.convolution.geometry import Geometry, Pair

ELEMENTS = 1 << 16
"""About this many numbers of the result are computed at a time."""


class Depthwise(Algorithm):
    """See the top of this file."""

    def __init__(self, weight: Array, geometry: Geometry, image: Pair, samples: int) -> None:
        super().__init__(weight, geometry, image, samples)
        (oh, ow), (top, _), (left, _) = self.output, *geometry.padding
        self.samples = min(samples, max(1, ELEMENTS // (oh * ow * self.channels)))
        shape = (self.samples, *geometry.padded(image), self.channels)
        self.frame = PaddedImages(shape, (top, left), self.dtype, planar=False)
        self.product = np.empty((self.samples, oh, ow, self.channels), self.dtype)
        self.gradient = np.zeros(weight.shape, self.dtype)

    def forward(self, x: Array, y: Array) -> None:
        product = self.product[: len(x)]
        y[...] = 0
        for at, pixels in self._places(self.frame.load(x)):
            np.multiply(pixels, self.weight[at][0], out=product)
            np.add(y, product, out=y)

    def backward(self, x: Array | None, g: Array, dx: Array | None) -> None:
        product = self.product[: len(g)]
        if x is not None:
            assert self.gradient is not None
            for at, pixels in self._places(self.frame.load(x)):
                np.multiply(pixels, g, out=product)
                self.gradient[at][0] += active().bias_gradient(product)
        if dx is not None:
            frame = np.zeros_like(self.frame.memory[: len(g)])
            for at, pixels in self._places(frame):
                np.multiply(g, self.weight[at][0], out=product)
                np.add(pixels, product, out=pixels)
            (top, _), (left, _) = self.geometry.padding
            np.copyto(dx, frame[:, top : top + self.image[0], left : left + self.image[1]])

    def weight_gradient(self, into: Array | None) -> Array:
        assert self.gradient is not None
        return write_gradient(self.gradient, into)

    def _places(self, frame: Array) -> Iterator[tuple[tuple[int, int], Array]]:
        (kh, kw), (oh, ow) = self.geometry.kernel, self.output
        for at in np.ndindex(kh, kw):
            yield (at[0], at[1]), place(frame, self.geometry, (at[0], at[1]), slice(0, oh), ow)
