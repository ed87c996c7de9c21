"""Convolution as a matrix product: every window is copied into a row ("im2col"), one or a few samples at a time.

The matrix of windows has one of two layouts. Images with enough channels are copied by window, since a row of a window, channels
last, is one contiguous run. Images with few channels would give runs of a few numbers, so they are split into planes first, and
the matrix is filled by column, in runs of one image row.

For stride 1, the gradient of the input is a convolution of the cotangent with the rotated kernel. Otherwise the cotangents of the
windows are added at the positions of the windows, one entry of the kernel at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels import active
from allgrad.nn.convolution.algorithm import Algorithm, Array
from allgrad.nn.convolution.padded_images import PaddedImages, place, windows
from allgrad.nn.gradients import write_gradient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allgrad.nn.convolution.geometry import Geometry, Pair

ELEMENTS = 1 << 17
"""About this many numbers are copied or written at a time: half a megabyte of float32."""
ROWS = 128
"""A product with fewer rows would spend its time packing the kernel."""
SHORT_RUN = 16
"""Shorter contiguous runs are too short to copy by window."""


class Patches(Algorithm):
    """See the top of this file."""

    def __init__(self, weight: Array, geometry: Geometry, image: Pair, samples: int) -> None:
        super().__init__(weight, geometry, image, samples)
        kh, kw, inner, outer = weight.shape
        groups, (oh, ow) = geometry.groups, self.output
        self.columns = kh * kw * inner
        self.planar = groups == 1 and inner * (kw if geometry.dilation[1] == 1 else 1) < SHORT_RUN
        rows = max(ROWS, ELEMENTS // max(self.columns * groups, outer))
        self.samples = min(samples, max(1, rows // (oh * ow)))
        # An image that is too large is processed in bands of rows.
        self.band = oh if self.samples > 1 else min(oh, max(1, rows // ow))
        # The kernel as one matrix per group: (groups, kh kw C / groups, O / groups).
        self.matrix = weight.reshape(self.columns, groups, outer // groups).transpose(1, 0, 2)
        self.frame: PaddedImages | None = None
        self.memory: Array | None = None
        self.turned: Patches | None = None

    def forward(self, x: Array, y: Array) -> None:
        frame = self._framed(x)
        for rows in self._bands():
            active().matmul(self._unfold(frame, rows), self.matrix, out=self._by_group(y[:, rows]))

    def backward(self, x: Array | None, g: Array, dx: Array | None) -> None:
        if x is not None:
            frame = self._framed(x)
            for rows in self._bands():
                self._collect(self._unfold(frame, rows).transpose(0, 2, 1), self._by_group(g[:, rows]))
        if dx is None:
            return
        around = self.geometry.flipped().padding
        if self.geometry.stride == (1, 1) and min(*around[0], *around[1]) >= 0:
            self._convolve_turned(g, dx)
        else:
            self._fold(g, dx)

    def weight_gradient(self, into: Array | None) -> Array:
        assert self.gradient is not None
        return write_gradient(self.gradient.transpose(1, 0, 2).reshape(self.weight.shape), into)

    def _bands(self) -> Iterator[slice]:
        oh = self.output[0]
        for start in range(0, oh, self.band):
            yield slice(start, min(start + self.band, oh))

    def _by_group(self, y: Array) -> Array:
        """Pixels (samples, rows, W, O) as (groups, pixels, O / groups)."""
        groups = self.geometry.groups
        return y.reshape(-1, groups, y.shape[-1] // groups).transpose(1, 0, 2)

    def _framed(self, x: Array) -> Array:
        if self.geometry.padding == ((0, 0), (0, 0)) and not self.planar:
            return x
        if self.frame is None:
            (top, _), (left, _) = self.geometry.padding
            shape = (self.samples, *self.geometry.padded(self.image), self.channels)
            self.frame = PaddedImages(shape, (top, left), self.dtype, self.planar)
        return self.frame.load(x)

    def _matrix_of_windows(self, pixels: int) -> Array:
        """Scratch memory of shape (groups, pixels, columns); its layout follows the images'."""
        groups, columns = self.geometry.groups, self.columns
        if self.memory is None:
            self.memory = np.empty(groups * self.samples * self.band * self.output[1] * columns, self.dtype)
        memory = self.memory[: groups * pixels * columns]
        if self.planar:
            return memory.reshape(groups, columns, pixels).transpose(0, 2, 1)
        return memory.reshape(groups, pixels, columns)

    def _unfold(self, frame: Array, rows: slice) -> Array:
        """The windows of some output rows, copied: (groups, pixels, columns)."""
        seen = windows(frame, self.geometry, self.output)[:, rows]
        n, height, width = seen.shape[:3]
        matrix = self._matrix_of_windows(n * height * width)
        kh, kw = self.geometry.kernel
        if self.planar:
            target = matrix.transpose(0, 2, 1).reshape(1, kh, kw, -1, n, height, width).transpose(4, 5, 6, 0, 1, 2, 3)
        else:
            target = matrix.reshape(-1, n, height, width, kh, kw, seen.shape[6]).transpose(1, 2, 3, 0, 4, 5, 6)
        np.copyto(target, seen)
        return matrix

    def _convolve_turned(self, g: Array, dx: Array) -> None:
        if self.turned is None:
            self.turned = Patches(
                turned(self.weight, self.geometry.groups), self.geometry.flipped(), self.output, len(g)
            )
        step = self.turned.samples
        for start in range(0, len(g), step):
            self.turned.forward(g[start : start + step], dx[start : start + step])

    def _fold(self, g: Array, dx: Array) -> None:
        n, ow, (kh, kw), groups = len(g), self.output[1], self.geometry.kernel, self.geometry.groups
        frame = np.zeros((n, *self.geometry.padded(self.image), self.channels), self.dtype)
        memory = np.empty((groups, n * self.band * ow, self.columns), self.dtype)
        for rows in self._bands():
            height = rows.stop - rows.start
            part = memory[:, : n * height * ow]
            active().matmul(self._by_group(g[:, rows]), self.matrix.transpose(0, 2, 1), out=part)
            by_place = part.reshape(groups, n, height, ow, kh, kw, -1)
            for i in range(kh):
                for j in range(kw):
                    pixels = place(frame, self.geometry, (i, j), rows, ow)
                    pixels = pixels.reshape(*pixels.shape[:3], groups, -1) if groups > 1 else pixels[:, :, :, None]
                    pixels += by_place[:, :, :, :, i, j].transpose(1, 2, 3, 0, 4)
        (top, _), (left, _) = self.geometry.padding
        np.copyto(dx, frame[:, top : top + self.image[0], left : left + self.image[1]])


def turned(weight: Array, groups: int = 1) -> Array:
    """The kernel that maps the cotangent of an output to that of the input: rotated by 180 degrees, channels exchanged."""
    kh, kw, inner, outer = weight.shape
    split = weight.reshape(kh, kw, inner, groups, outer // groups)[::-1, ::-1]
    return np.ascontiguousarray(split.transpose(0, 1, 4, 3, 2)).reshape(kh, kw, outer // groups, inner * groups)
