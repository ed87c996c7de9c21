"""The interface of the convolution algorithms.

An algorithm is made for one call (one kernel, one shape of images) and then gets consecutive groups of at most `samples` samples.
It reuses its scratch memory from group to group, so the windows of a group are still in the second-level cache when the matrix
product reads them. The gradient of the kernel is summed over groups in their order. Groups depend on shapes only, and so do bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.kernels import active

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allgrad.nn.convolution.geometry import Geometry, Pair

Array = npt.NDArray[Any]


class Algorithm:
    """Convolution of images (samples, height, width, channels) with one kernel.

    Args:
        weight: the kernel, (kh, kw, channels / groups, outputs) float.
        geometry: the positions of its windows.
        image: (height, width).
        samples: total number of samples.

    Attributes:
        samples: number of samples in a group; the last group may be smaller.
        output: (height, width) of the result.
    """

    def __init__(self, weight: Array, geometry: Geometry, image: Pair, samples: int) -> None:
        self.weight = weight
        self.geometry = geometry
        self.image = image
        self.output = geometry.output(image)
        self.samples = samples
        self.channels = weight.shape[2] * geometry.groups
        self.dtype = weight.dtype
        self.gradient: Array | None = None
        self._partial: Array | None = None

    def forward(self, x: Array, y: Array) -> None:
        """Convolve the samples x, and write the result to y: (samples, *output, outputs), C-contiguous."""
        raise NotImplementedError

    def backward(self, x: Array | None, g: Array, dx: Array | None) -> None:
        """Process the cotangent g of a group's result (C-contiguous).

        If `dx` is given (C-contiguous), write the cotangent of the input to it. If `x` is given, add to the gradient of the
        kernel, which `weight_gradient` returns in the end.
        """
        raise NotImplementedError

    def weight_gradient(self, into: Array | None) -> Array:
        """The collected gradient of the kernel, written to `into` if that is given. Call it once, at the end."""
        raise NotImplementedError

    def groups_of(self, samples: int, first: int = 0) -> Iterator[slice]:
        """The groups of that many samples, from number `first` on."""
        for start in range(first, first + samples, self.samples):
            yield slice(start, min(start + self.samples, first + samples))

    def _collect(self, first: Array, second: Array) -> None:
        """Add the (batched) product of two matrices to the gradient."""
        if self.gradient is None:
            self.gradient = active().matmul(first, second)
            return
        if self._partial is None:
            self._partial = np.empty_like(self.gradient)
        active().matmul(first, second, out=self._partial)
        np.add(self.gradient, self._partial, out=self.gradient)
