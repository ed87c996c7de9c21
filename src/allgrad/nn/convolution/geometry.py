"""Where the windows of a convolution lie: a value object, and all arithmetic of shapes."""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Kernel (height, width), stride, padding ((top, bottom), (left, right)), dilation and number of groups."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def reach(self) -> Pair:
        """How many pixels a window spans, gaps of the dilation included."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    @property
    def plain(self) -> bool:
        """Neither stride, dilation nor groups."""
        return self.stride == self.dilation == (1, 1) and self.groups == 1

    def padded(self, image: Pair) -> Pair:
        (top, bottom), (left, right) = self.padding
        return image[0] + top + bottom, image[1] + left + right

    def output(self, image: Pair) -> Pair:
        """Height and width of the result for an image; below 1 where no window fits."""
        (h, w), (rh, rw), (sh, sw) = self.padded(image), self.reach, self.stride
        return (h - rh) // sh + 1, (w - rw) // sw + 1

    def flipped(self) -> Geometry:
        """For stride 1: the convolution that takes an output's cotangent to the input's, kernel turned by 180 degrees."""
        (rh, rw), ((top, bottom), (left, right)) = self.reach, self.padding
        around = ((rh - 1 - top, rh - 1 - bottom), (rw - 1 - left, rw - 1 - right))
        return self._replace(padding=around)
