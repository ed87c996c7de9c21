"""What every way of convolving offers, and the scratch memory that they share.

An algorithm is made for one call (one kernel, one shape of images) and then handed consecutive groups of at most `samples`
samples. Its scratch memory lives as long as it does and is reused from group to group, so that a group's windows are
still in the second-level cache when the matrix product reads them. The weight's gradient is summed over groups
in their order; which samples make a group depends on shapes alone, so bits do too.
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
    """Convolution of images (samples, H, W, C) with a kernel (kh, kw, C / groups, O).

    Args:
        weight: the kernel.
        geometry: where its windows lie.
        image: (H, W).
        samples: how many samples there are in all.

    Attributes:
        samples: how many to hand over at a time; the last group may be smaller.
        output: (H, W) of the result.
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
        """Convolve the samples x; write y (samples, *output, O), C-contiguous."""
        raise NotImplementedError

    def backward(self, x: Array | None, g: Array, dx: Array | None) -> None:
        """Given the cotangent g of a group's result (C-contiguous): write the input's to `dx` if that is given (it is
        C-contiguous), and add the weight's to what `weight_gradient` will return if `x` is given.
        """
        raise NotImplementedError

    def weight_gradient(self, into: Array | None) -> Array:
        """The sum that `backward` has collected, in `into` if that is given. Call it once, at the end."""
        raise NotImplementedError

    def groups_of(self, samples: int) -> Iterator[slice]:
        """The groups in which to hand over that many samples."""
        for start in range(0, samples, self.samples):
            yield slice(start, min(start + self.samples, samples))

    def _collect(self, first: Array, second: Array) -> None:
        """Add the (batched) product of two matrices to the gradient."""
        if self.gradient is None:
            self.gradient = active().matmul(first, second)
            return
        if self._partial is None:
            self._partial = np.empty_like(self.gradient)
        active().matmul(first, second, out=self._partial)
        np.add(self.gradient, self._partial, out=self.gradient)
