"""Positions of windows along an axis, for convolution and pooling.

Entry `at` of window number `i` is the pixel at * dilation + i * stride, counted from the start of the padding.
"""

from __future__ import annotations


def reach(window: int, dilation: int) -> int:
    """Pixels that a window spans, including the gaps of the dilation."""
    return dilation * (window - 1) + 1


def count(length: int, window: int, stride: int, padding: int = 0, dilation: int = 1, *, ceil: bool = False) -> int:
    """The number of windows along an axis with `padding` on both sides; below 1 if no window fits.

    In ceil mode the last one may extend beyond the end, but must begin in the image or in the padding before it.

    Example:
        >>> count(7, 3, 2), count(8, 3, 2), count(8, 3, 2, ceil=True)
        (3, 3, 4)
    """
    room = length + 2 * padding - reach(window, dilation)
    if not ceil:
        return room // stride + 1
    most = -(-room // stride) + 1
    return most - 1 if (most - 1) * stride >= length + padding else most


def entries(at: int, windows: int, stride: int, dilation: int, first: int = 0) -> slice:
    """The pixels that are entry `at` of some windows, from number `first` on."""
    start = at * dilation + first * stride
    return slice(start, start + (windows - 1) * stride + 1, stride)
