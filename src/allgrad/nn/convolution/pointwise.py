"""1x1 kernels without stride, padding or groups: one matrix product over all pixels of all samples."""

from __future__ import annotations

import numpy as np

from allgrad.nn.convolution.method import Array, Method


class Pointwise(Method):
    """See the top of this file. It takes all samples at once."""

    def forward(self, x: Array, y: Array) -> None:
        np.matmul(self._rows(x), self._matrix, out=self._rows(y))

    def backward(self, x: Array | None, g: Array, dx: Array | None) -> None:
        rows = self._rows(g)
        if dx is not None:
            np.matmul(rows, self._matrix.T, out=self._rows(dx))
        if x is not None:
            self.x, self.g = self._rows(x), rows

    def weight_gradient(self, into: Array | None) -> Array:
        gradient = np.empty(self.weight.shape, self.dtype) if into is None else into
        np.matmul(self.x.T, self.g, out=gradient.reshape(self._matrix.shape))
        return gradient

    @property
    def _matrix(self) -> Array:
        return self.weight.reshape(self.weight.shape[2:])

    @staticmethod
    def _rows(x: Array) -> Array:
        return np.ascontiguousarray(x).reshape(-1, x.shape[-1])
