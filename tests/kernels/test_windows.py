"""Windows along an axis, counted and found one by one."""

from itertools import product

from allgrad.kernels import windows


def test_windows_are_those_that_fit():
    for length, window, stride, padding, dilation in product(range(1, 12), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2)):
        if 2 * padding > window:
            continue
        ends = [start + (window - 1) * dilation + 1 for start in range(0, length + 2 * padding, stride)]
        inside = sum(end <= length + 2 * padding for end in ends)
        assert max(0, windows.count(length, window, stride, padding, dilation)) == inside
        grown = windows.count(length, window, stride, padding, dilation, ceil=True)
        if inside:
            begins = sum(start < length + padding for start in range(0, length + 2 * padding, stride))
            assert grown == min(inside + (ends[inside - 1] < length + 2 * padding), begins)


def test_entries_are_the_pixels_of_each_window():
    for at, count, stride, dilation, first in product(range(3), (1, 2, 4), (1, 2), (1, 3), (0, 2)):
        pixels = range(100)[windows.entries(at, count, stride, dilation, first)]
        assert list(pixels) == [(first + i) * stride + at * dilation for i in range(count)]
