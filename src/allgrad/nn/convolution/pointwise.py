"""1x1 kernels without stride, padding, or groups: a matrix product over the pixels of a few samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels import active
from allgrad.nn.convolution.algorithm import Algorithm, Array
from allgrad.nn.gradients import write_gradient

if TYPE_CHECKING:
    from allgrad.nn.convolution.geometry import Geometry, Pair

ELEMENTS = 1 << 17
"""About this many numbers are read or written at a time, so that bias and activation find them in cache."""


class Pointwise(Algorithm):
    """See the top of this file."""

    def __init__(self, weight: Array, geometry: Geometry, image: Pair, samples: int) -> None:
        super().__init__(weight, geometry, image, samples)
        self.samples = min(samples, max(1, ELEMENTS // (image[0] * image[1] * max(weight.shape[2:]))))
        self.matrix = weight.reshape(weight.shape[2:])

    def forward(self, x: Array, y: Array) -> None:
        active().matmul(self._rows(x), self.matrix, out=self._rows(y))

    def backward(self, x: Array | None, g: Array, dx: Array | None) -> None:
        rows = self._rows(g)
        if dx is not None:
            active().matmul(rows, self.matrix.T, out=self._rows(dx))
        if x is not None:
            self._collect(self._rows(x).T, rows)

    def weight_gradient(self, into: Array | None) -> Array:
        assert self.gradient is not None
        return write_gradient(self.gradient.reshape(self.weight.shape), into)

    @staticmethod
    def _rows(x: Array) -> Array:
        return np.ascontiguousarray(x).reshape(-1, x.shape[-1])
