"""Padded images, and views of the windows over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from allgrad.kernels.windows import entries

if TYPE_CHECKING:
    from allgrad.nn.convolution.algorithm import Array
    from allgrad.nn.convolution.geometry import Geometry, Pair


class PaddedImages:
    """Scratch memory into which images are copied, with zeros around them.

    Args:
        shape: (samples, padded height, padded width, channels).
        corner: position of an image's first pixel.
        dtype: of the images.
        planar: whether memory is ordered plane by plane instead of pixel by pixel; the shape is the same.
    """

    def __init__(self, shape: tuple[int, int, int, int], corner: Pair, dtype: np.dtype[np.floating], planar: bool):
        n, h, w, c = shape
        self.memory: Array = np.zeros((c, n, h, w), dtype).transpose(1, 2, 3, 0) if planar else np.zeros(shape, dtype)
        self.corner = corner

    def inside(self, samples: int, image: Pair) -> Array:
        """The part of the memory that holds the images."""
        top, left = self.corner
        return self.memory[:samples, top : top + image[0], left : left + image[1]]

    def load(self, x: Array) -> Array:
        """Copy images in, and return them with their padding."""
        np.copyto(self.inside(len(x), (x.shape[1], x.shape[2])), x)
        return self.memory[: len(x)]


def windows(frame: Array, geometry: Geometry, output: Pair) -> Array:
    """A view of all windows over padded images: (samples, *output, groups, kh, kw, channels / groups)."""
    n, channels = len(frame), frame.shape[3]
    (kh, kw), (sh, sw), (dh, dw), groups = geometry.kernel, geometry.stride, geometry.dilation, geometry.groups
    sample, row, column, channel = frame.strides
    inner = channels // groups
    shape = (n, *output, groups, kh, kw, inner)
    return as_strided(
        frame, shape, (sample, sh * row, sw * column, inner * channel, dh * row, dw * column, channel), writeable=False
    )


def place(frame: Any, geometry: Geometry, at: Pair, rows: slice, columns: int) -> Any:
    """A view of the pixels at the kernel's position `at`, for some output rows: (samples, rows, columns, channels)."""
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    return frame[:, entries(at[0], rows.stop - rows.start, sh, dh, rows.start), entries(at[1], columns, sw, dw)]
