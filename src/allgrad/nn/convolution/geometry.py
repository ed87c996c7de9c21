"""The options of convolution and pooling, and the sizes that follow from them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from allgrad.kernels import windows
from allgrad.nn.errors import LayerOptionError

Pair = tuple[int, int]
Padding = int | Pair | Literal["same", "valid"]


class Geometry(NamedTuple):
    """Kernel (height, width), stride, padding ((top, bottom), (left, right)), dilation and number of groups."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def reach(self) -> Pair:
        """Pixels that a window spans, including the gaps of the dilation."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return windows.reach(kh, dh), windows.reach(kw, dw)

    @property
    def plain(self) -> bool:
        """Whether there is no stride, no dilation, and a single group."""
        return self.stride == self.dilation == (1, 1) and self.groups == 1

    def padded(self, image: Pair) -> Pair:
        """Height and width of a padded image."""
        (top, bottom), (left, right) = self.padding
        return image[0] + top + bottom, image[1] + left + right

    def output(self, image: Pair) -> Pair:
        """Height and width of the result for an image; below 1 if no window fits."""
        each = zip(self.padded(image), self.kernel, self.stride, self.dilation, strict=True)
        rows, columns = (windows.count(length, size, stride, 0, dilation) for length, size, stride, dilation in each)
        return rows, columns

    def flipped(self) -> Geometry:
        """For stride 1: the convolution that maps the cotangent of the output to that of the input, with the kernel rotated."""
        (rh, rw), ((top, bottom), (left, right)) = self.reach, self.padding
        around = ((rh - 1 - top, rh - 1 - bottom), (rw - 1 - left, rw - 1 - right))
        return self._replace(padding=around)


def pair(value: int | Pair, what: str, least: int) -> Pair:
    """One number for both axes, or one per axis, as two numbers.

    Raises:
        LayerOptionError: if it is not one or two integers of at least `least`.
    """
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in both):
        raise LayerOptionError(f"{what} must be one or two integers of at least {least}. Got {value!r} instead.")
    return both


def padding_sides(layer: str, padding: Padding, geometry: Geometry) -> tuple[Pair, Pair]:
    """The padding as ((top, bottom), (left, right)).

    Raises:
        LayerOptionError: if it is not a padding, or "same" with a stride.
    """
    if padding == "same":
        if geometry.stride != (1, 1):
            raise LayerOptionError(f"{layer}: padding='same' needs stride 1. Got {geometry.stride} instead.")
        rows, columns = ((r - 1) // 2 for r in geometry.reach)
        return (rows, geometry.reach[0] - 1 - rows), (columns, geometry.reach[1] - 1 - columns)
    if isinstance(padding, str):
        if padding != "valid":
            raise LayerOptionError(f"{layer}: padding must be 'same', 'valid', or integers. Got {padding!r} instead.")
        return (0, 0), (0, 0)
    rows, columns = pair(padding, f"{layer}: padding", 0)
    return (rows, rows), (columns, columns)
