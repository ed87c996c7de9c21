"""Derivatives of np.fft.

Every transform is linear, so a tangent goes through the transform itself. The four transposes:

* fft and ifft: the matrix exp(-+2 pi i jk / n) is symmetric, so each is its own transpose, with its own normalization.
* rfft: fft of the cotangent, filled with zeros up to n, of which the real part is kept.
* irfft: y[j] = Re(sum of c[k] a[k] exp(2 pi i jk / n)). Here c = 1 at k = 0 and k = n / 2, where only the real part of `a` is
  used, and c = 2 in between (for the half that is not stored). Its transpose is the first half of ifft, times c.

Each transform first cuts its input to n entries or fills it up with zeros; the transpose fills or cuts the cotangent (`_fit`).
hfft and ihfft are irfft and rfft with a conjugate and the opposite normalization, as NumPy defines them. The n-dimensional
transforms do one axis after the other, in NumPy's order. float32 stays float32, as in NumPy 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.arguments import axis_of, conjugate, refuse
from allgrad.numpy.dispatch import implements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPPOSITE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}


def _fit(x: Any, n: int, axis: int) -> Any:
    """x with n entries along an axis: cut off, or filled up with zeros."""
    have = x.shape[axis]
    if have >= n:
        return x if have == n else x[(slice(None),) * axis + (slice(n),)]
    return np.concatenate([x, np.zeros((*x.shape[:axis], n - have, *x.shape[axis + 1 :]), x.dtype)], axis)


def _transform(function: Any, transpose: Callable[..., Any]) -> Primitive:
    """A one-dimensional transform; transpose(g, n, axis, norm) gives the cotangent of the input before `_fit`."""
    name = function.__name__

    def value(x: Any, *, n: int, axis: int, norm: str | None, length: int) -> Any:  # noqa: ARG001
        return function(x, n, axis, norm)

    def vjp(g: Any, *, n: int, axis: int, norm: str | None, length: int) -> Any:
        return _fit(transpose(g, n, axis, norm), length, axis)

    primitive = Primitive(value, name=name, vjp={"x": vjp}, jvp={"x": LINEAR})

    def rule(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
        refuse(f"np.fft.{name}", out=out)
        axis = axis_of(axis, a.ndim, f"np.fft.{name}")
        length = a.shape[axis]
        n = (2 * (length - 1) if function is np.fft.irfft else length) if n is None else int(n)
        if norm not in _OPPOSITE:
            raise ValueError(f"np.fft.{name}: norm is 'backward', 'ortho' or 'forward', got {norm!r}.")
        return primitive(a, n=n, axis=axis, norm=norm, length=length)

    implements(function)(rule)
    return primitive


def _irfft_transpose(g: Any, n: int, axis: int, norm: Any) -> Any:
    kept = n // 2 + 1
    twice = np.full(kept, 2, g.dtype)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    half = np.fft.ihfft(g, n, axis, norm)
    return half * twice.reshape([-1 if i == axis else 1 for i in range(g.ndim)])


_transform(np.fft.fft, lambda g, n, axis, norm: np.fft.fft(g, n, axis, norm))
_transform(np.fft.ifft, lambda g, n, axis, norm: np.fft.ifft(g, n, axis, norm))
_transform(np.fft.rfft, lambda g, n, axis, norm: np.fft.fft(g, n, axis, norm))
_transform(np.fft.irfft, _irfft_transpose)


@implements(np.fft.hfft)
def hfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    refuse("np.fft.hfft", out=out)
    return np.fft.irfft(conjugate(a), n, axis, _opposite(norm, "hfft"))


@implements(np.fft.ihfft)
def ihfft(a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    refuse("np.fft.ihfft", out=out)
    return conjugate(np.fft.rfft(a, n, axis, _opposite(norm, "ihfft")))


def _opposite(norm: Any, name: str) -> Any:
    if norm not in _OPPOSITE:
        raise ValueError(f"np.fft.{name}: norm is 'backward', 'ortho' or 'forward', got {norm!r}.")
    return _OPPOSITE[norm]


# Several axes, one after the other.


def _axes_and_sizes(a: Any, s: Any, axes: Any, name: str) -> list[tuple[int, int | None]]:
    """(axis, length or None) for each transform; -1 in s leaves an axis as long as it is."""
    if axes is None:
        axes = range(a.ndim if s is None else a.ndim - len(s), a.ndim) if s is not None else range(a.ndim)
    axes = [axis_of(i, a.ndim, f"np.fft.{name}") for i in axes]
    sizes = [None] * len(axes) if s is None else [None if n is None or n == -1 else int(n) for n in s]
    if len(sizes) != len(axes):
        raise ValueError(f"np.fft.{name}: s and axes must have the same length, got {s!r} and {axes!r}.")
    return list(zip(axes, sizes, strict=True))


def _along_all(function: Any, a: Any, plan: Sequence[tuple[int, int | None]], norm: Any) -> Any:
    for axis, n in plan:
        a = function(a, n, axis, norm)
    return a


def _declare_many(name: str, compute: Callable[..., Any]) -> None:
    """name + "n" over any axes, name + "2" over two."""

    def rule(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
        refuse(f"np.fft.{name}n", out=out)
        return compute(a, _axes_and_sizes(a, s, axes, f"{name}n"), norm)

    def rule_of_two(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
        return rule(a, s, axes, norm, out)

    implements(getattr(np.fft, f"{name}n"))(rule)
    implements(getattr(np.fft, f"{name}2"))(rule_of_two)


def _rfftn(a: Any, plan: list[tuple[int, int | None]], norm: Any) -> Any:
    axis, n = plan[-1]
    return _along_all(np.fft.fft, np.fft.rfft(a, n, axis, norm), plan[-2::-1] if len(plan) > 1 else [], norm)


def _irfftn(a: Any, plan: list[tuple[int, int | None]], norm: Any) -> Any:
    axis, n = plan[-1]
    return np.fft.irfft(_along_all(np.fft.ifft, a, plan[:-1], norm), n, axis, norm)


_declare_many("fft", lambda a, plan, norm: _along_all(np.fft.fft, a, plan[::-1], norm))
_declare_many("ifft", lambda a, plan, norm: _along_all(np.fft.ifft, a, plan[::-1], norm))
_declare_many("rfft", _rfftn)
_declare_many("irfft", _irfftn)


@implements(np.fft.fftshift)
def fftshift(x: Any, axes: Any = None) -> Any:
    return _shift(x, axes, 1)


@implements(np.fft.ifftshift)
def ifftshift(x: Any, axes: Any = None) -> Any:
    return _shift(x, axes, -1)


def _shift(x: Any, axes: Any, sign: int) -> Any:
    axes = tuple(range(x.ndim)) if axes is None else (axes,) if np.ndim(axes) == 0 else tuple(axes)
    return np.roll(x, tuple(sign * (x.shape[i] // 2) for i in axes), axes)


# NumPy writes these two in Python arithmetic, 1 / (n * d), in which a Tensor d takes part: they need no rule of ours.
for _function in (np.fft.fftfreq, np.fft.rfftfreq):
    implements(_function)(_function)
