"""Pooling layers, channels last.

Averages are linear and separable: one constant matrix per axis holds the weight of each pixel in each output. So average and
adaptive pooling, also with padding and in ceil mode, are two matrix products, which the tape differentiates to any order.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Fused
from allgrad.kernels import active, windows
from allgrad.nn.checks import check_image
from allgrad.nn.convolution.geometry import pair
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.module import Module
from allgrad.nn.primitives import matmul

if TYPE_CHECKING:
    from allgrad.nn.convolution.geometry import Pair
    from allgrad.nn.parameter import Array


# Maximum.


def _max_forward(
    x: Array, *, window: Pair, stride: Pair, padding: Pair, dilation: Pair, extra: Pair
) -> tuple[Array, Any]:
    if extra != (0, 0):
        grown = np.full((len(x), x.shape[1] + extra[0], x.shape[2] + extra[1], x.shape[3]), -np.inf, x.dtype)
        grown[:, : x.shape[1], : x.shape[2]] = x
        x = grown
    y = active().max_pool_forward(x, window, stride, padding, dilation)
    return y, (x, y)


def _max_backward(
    g: Array,
    residuals: Any,
    *,
    needs: Any,  # noqa: ARG001
    window: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    extra: Pair,
) -> tuple[Array]:
    x, y = residuals
    dx = active().max_pool_backward(g, x, y, window, stride, padding, dilation)
    return (dx[:, : x.shape[1] - extra[0], : x.shape[2] - extra[1]],)


def _max_reference(x: Any, *, window: Pair, stride: Pair, padding: Pair, dilation: Pair, extra: Pair) -> Any:
    sides = [(padding[axis], padding[axis] + extra[axis]) for axis in (0, 1)]
    x = np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=-np.inf)
    counts = [windows.count(x.shape[1 + axis], window[axis], stride[axis], 0, dilation[axis]) for axis in (0, 1)]
    places = []
    for at in np.ndindex(window):
        rows, columns = (windows.entries(at[i], counts[i], stride[i], dilation[i]) for i in (0, 1))
        places.append(x[:, rows, columns])
    return np.max(np.stack(places), axis=0)


max_pool = Fused(_max_forward, _max_backward, name="max_pool", reference=_max_reference)


class _Pool2d(Module):
    """Size, stride, and padding of windows."""

    def __init__(
        self, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair, ceil_mode: bool
    ) -> None:
        name = type(self).__name__
        self.window = pair(kernel_size, f"{name}: kernel_size", 1)
        self.stride = self.window if stride is None else pair(stride, f"{name}: stride", 1)
        self.padding = pair(padding, f"{name}: padding", 0)
        self.ceil_mode = ceil_mode
        if any(2 * p > w for p, w in zip(self.padding, self.window, strict=True)):
            raise LayerOptionError(
                f"{name}: padding must be at most half of the window {self.window}. Got {self.padding} instead."
            )

    def _counts(self, x: Any, axes: tuple[str, ...] = ("height", "width"), dilation: Pair = (1, 1)) -> Pair:
        """The number of windows along both axes of an image, after a check of it."""
        check_image(self, x, axes)
        sides = (x.shape[1], x.shape[2]) if len(axes) == 2 else (1, x.shape[1])
        rows, columns = (
            windows.count(sides[i], self.window[i], self.stride[i], self.padding[i], dilation[i], ceil=self.ceil_mode)
            for i in (0, 1)
        )
        if rows < 1 or columns < 1:
            raise InputError(
                f"{self.where()}: a window of {self.window} with padding {self.padding} and dilation {dilation} does not "
                f"fit an input of shape {x.shape}."
            )
        return rows, columns

    def extra_repr(self) -> str:
        parts = [f"{self.window}", f"stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        return ", ".join(parts + (["ceil_mode=True"] if self.ceil_mode else []))


class MaxPool2d(_Pool2d):
    """The largest pixel of each window.

    x: (batch, height, width, channels) float; result: (batch, height', width', channels) float. Padding is never the largest.
    Among equal pixels the first gets the gradient. After a convolution, `Conv2d(..., pool=...)` is faster and needs less memory
    if the windows do not overlap.

    Args:
        kernel_size: pixels of the window: one number, or one per axis.
        stride: pixels between two windows; by default `kernel_size`.
        padding: on both sides of each axis, at most half of the window.
        dilation: pixels between two entries of the window.
        ceil_mode: whether the last window may extend beyond the image.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError, InputTypeError: if an input has the wrong shape or dtype, or no window fits.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.MaxPool2d(2)(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """

    rows_independent = True

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        *,
        dilation: int | Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation = pair(dilation, "MaxPool2d: dilation", 1)

    @property
    def tile(self) -> Pair | None:
        """The window, if windows are tiles: adjacent, from the first pixel on, inside the image. Otherwise None."""
        plain = self.stride == self.window and self.padding == (0, 0) and self.dilation == (1, 1) and not self.ceil_mode
        return self.window if plain else None

    def forward(self, x: Any) -> Any:
        return self._pool(x, self._counts(x, dilation=self.dilation))

    def _pool(self, x: Any, counts: Pair) -> Any:
        """Pool images. Ceil mode becomes additional rows and columns at the end."""
        extra = []
        for i in (0, 1):
            end = (counts[i] - 1) * self.stride[i] + windows.reach(self.window[i], self.dilation[i])
            extra.append(max(0, end - x.shape[1 + i] - 2 * self.padding[i]))
        return max_pool(
            x,
            window=self.window,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            extra=(extra[0], extra[1]),
        )


class MaxPool1d(MaxPool2d):
    """The largest entry of each window.

    x: (batch, length, channels) float; result: (batch, length', channels) float. Arguments and errors are those of `MaxPool2d`.
    """

    rows_independent = True

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        *,
        dilation: int = 1,
        ceil_mode: bool = False,
    ) -> None:
        step = kernel_size if stride is None else stride
        super().__init__((1, kernel_size), (1, step), (0, padding), dilation=(1, dilation), ceil_mode=ceil_mode)

    def forward(self, x: Any) -> Any:
        counts = self._counts(x, ("length",), self.dilation)
        n, length, channels = x.shape
        return np.reshape(self._pool(np.reshape(x, (n, 1, length, channels)), counts), (n, -1, channels))


# Averages.


@cache
def _average_matrix(
    length: int, count: int, window: int, stride: int, padding: int, include: bool, dtype: np.dtype[Any]
) -> Array:
    """(count, length): the weight of each pixel in each window."""
    matrix = np.zeros((count, length), dtype)
    for row in range(count):
        start = row * stride - padding
        # In ceil mode a window may extend beyond the padding; the part there does not count.
        stop = min(start + window, length + padding)
        inside = range(max(start, 0), min(stop, length))
        matrix[row, inside.start : inside.stop] = 1 / ((stop - start) if include else len(inside))
    matrix.flags.writeable = False
    return matrix


@cache
def _adaptive_matrix(length: int, count: int, dtype: np.dtype[Any]) -> Array:
    """(count, length): output i averages the pixels from floor(i length / count) up to ceil((i + 1) length / count)."""
    matrix = np.zeros((count, length), dtype)
    for row in range(count):
        start, stop = row * length // count, math.ceil((row + 1) * length / count)
        matrix[row, start:stop] = 1 / (stop - start)
    matrix.flags.writeable = False
    return matrix


def _weigh(x: Any, rows: Array, columns: Array) -> Any:
    """rows x columns' for each sample and channel of (batch, height, width, channels)."""
    n, h, w, channels = x.shape
    x = matmul(rows, np.reshape(x, (n, h, w * channels)))
    return matmul(columns, np.reshape(x, (n, len(rows), w, channels)))


class AvgPool2d(_Pool2d):
    """The mean of each window.

    x: (batch, height, width, channels) float; result: (batch, height', width', channels) float.

    Args:
        kernel_size: pixels of the window: one number, or one per axis.
        stride: pixels between two windows; by default `kernel_size`.
        padding: zeros on both sides of each axis, at most half of the window.
        ceil_mode: whether the last window may extend beyond the image.
        count_include_pad: whether zeros of the padding count.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError, InputTypeError: if an input has the wrong shape or dtype, or no window fits.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.AvgPool2d(2)(np.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """

    rows_independent = True

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Any:
        counts = self._counts(x)
        rows, columns = (
            _average_matrix(
                x.shape[1 + i],
                counts[i],
                self.window[i],
                self.stride[i],
                self.padding[i],
                self.count_include_pad,
                np.dtype(x.dtype),
            )
            for i in (0, 1)
        )
        return _weigh(x, rows, columns)


class AdaptiveAvgPool2d(Module):
    """The mean over windows that divide the image into `output_size` parts.

    x: (batch, height, width, channels) float; result: (batch, height', width', channels) float.

    Args:
        output_size: one number, or (height', width'). None keeps that axis; 1 is the mean over the whole axis.

    Raises:
        LayerOptionError: if a size is below 1.
        InputError, InputTypeError: if an input has the wrong shape or dtype.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.AdaptiveAvgPool2d(1)(np.arange(6.0).reshape(1, 2, 3, 1)).tolist()
    [[[[2.5]]]]
    """

    rows_independent = True

    def __init__(self, output_size: int | tuple[int | None, int | None]) -> None:
        both = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if len(both) != 2 or any(side is not None and side < 1 for side in both):
            raise LayerOptionError(f"AdaptiveAvgPool2d: output_size must be 1 or more. Got {output_size!r} instead.")
        self.output_size = both

    def forward(self, x: Any) -> Any:
        check_image(self, x)
        rows, columns = (
            _adaptive_matrix(x.shape[1 + i], x.shape[1 + i] if side is None else side, np.dtype(x.dtype))
            for i, side in enumerate(self.output_size)
        )
        return _weigh(x, rows, columns)

    def extra_repr(self) -> str:
        return f"{self.output_size}"
