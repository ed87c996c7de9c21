"""Convolution and correlation of arrays of any dimension, by both arguments.

The full convolution is one primitive, bilinear in its arguments; the transpose in one argument is the convolution of the
cotangent with the other argument reversed, cut to the part where they overlap fully.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.arguments import conjugate
from allgrad.scipy.registry import differentiates, operand
from scipy import signal


def _value(x: Any, y: Any, *, axes: tuple[int, ...], method: str) -> Any:
    if method == "fft" or len(axes) < x.ndim:
        return signal.fftconvolve(x, y, mode="full", axes=axes)
    return signal.convolve(x, y, mode="full", method=method)


def _reversed(x: Any, axes: tuple[int, ...]) -> Any:
    return np.flip(x, axes)


def _transposed(g: Any, other: Any, *, axes: tuple[int, ...], method: str) -> Any:
    """The part of g convolved with the reversed other argument in which they overlap fully."""
    full = convolution(g, _reversed(other, axes), axes=axes, method=method)
    cut = [slice(None)] * full.ndim
    for axis in axes:
        m = other.shape[axis]
        cut[axis] = slice(m - 1, full.shape[axis] - m + 1)
    return full[tuple(cut)]


convolution: Primitive = Primitive(
    _value,
    name="convolve",
    vjp={
        "x": lambda g, y, *, axes, method: _transposed(g, y, axes=axes, method=method),
        "y": lambda g, x, *, axes, method: _transposed(g, x, axes=axes, method=method),
    },
    jvp={"x": LINEAR, "y": LINEAR},
)


def convolved(x: Any, y: Any, mode: str, axes: Any, method: str) -> Any:
    """The full convolution, or the part of it that `mode` names."""
    x, y = operand(x), operand(y)
    dtype = np.result_type(x.dtype, y.dtype)
    x, y = x.astype(dtype), y.astype(dtype)
    if x.ndim == y.ndim == 0:
        return x * y
    found = tuple(range(x.ndim)) if axes is None else tuple(int(a) % x.ndim for a in np.atleast_1d(axes))
    full = convolution(x, y, axes=found, method=method)
    if mode == "full":
        return full
    if mode not in ("same", "valid"):
        raise ValueError(f"the mode of a convolution is 'full', 'same' or 'valid', got {mode!r}.")
    cut = [slice(None)] * full.ndim
    for axis in found:
        n, m = x.shape[axis], y.shape[axis]
        size = n if mode == "same" else max(n, m) - min(n, m) + 1
        start = (full.shape[axis] - size) // 2
        cut[axis] = slice(start, start + size)
    return full[tuple(cut)]


@differentiates(signal.convolve, "signal")
def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    return convolved(in1, in2, mode, None, method)


@differentiates(signal.fftconvolve, "signal")
def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    return convolved(in1, in2, mode, axes, "fft")


@differentiates(signal.oaconvolve, "signal")
def oaconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """As fftconvolve: the overlap-add method changes the cost, not the result."""
    return convolved(in1, in2, mode, axes, "fft")


@differentiates(signal.correlate, "signal")
def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    in2 = operand(in2)
    return convolved(in1, conjugate(_reversed(in2, tuple(range(in2.ndim)))), mode, None, method)


@differentiates(signal.convolve2d, "signal")
def convolve2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    _plain_boundary("convolve2d", boundary, fillvalue)
    return convolved(in1, in2, mode, None, "direct")


@differentiates(signal.correlate2d, "signal")
def correlate2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    _plain_boundary("correlate2d", boundary, fillvalue)
    return correlate(in1, in2, mode, "direct")


def _plain_boundary(name: str, boundary: str, fillvalue: Any) -> None:
    if boundary != "fill" or fillvalue != 0:
        raise NotDifferentiableError(
            f"{name} is differentiated with boundary='fill' and fillvalue=0; np.pad the first argument for others."
        )
