"""`scipy.fft` with derivatives. The Fourier transforms are those of `allgrad.numpy`; here are the cosine and sine transforms.

With the matrix M of an unnormalized transform (Makhoul 1980; definitions in SciPy's documentation):

    type 1    M = C W with C symmetric; W = diag(1, 2, ..., 2, 1) for cosines, 1 for sines
    type 2    its transpose is type 3 after doubling the one entry that type 3 counts once
    type 3    its transpose is type 2, with that entry halved
    type 4    M is symmetric

The "ortho" transforms are orthogonal: the transpose is the inverse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft as _scipy_fft

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.scipy.registry import differentiates, operand

if TYPE_CHECKING:
    from collections.abc import Callable

OPPOSITE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}
INVERSE_TYPE = {1: 1, 2: 3, 3: 2, 4: 4}


def _scaled_end(x: Any, factor: float, ends: tuple[int, ...]) -> Any:
    """x with the entries at `ends` of the last axis multiplied by a factor."""
    weights = np.ones(x.shape[-1], dtype=x.real.dtype if isinstance(x, np.ndarray) else x.dtype)
    for end in ends:
        weights[end] = factor
    return x * weights


def _transpose(g: Any, *, name: str, kind: int, norm: str) -> Any:
    if norm == "ortho":
        return trigonometric(g, name=name, kind=INVERSE_TYPE[kind], norm=norm)
    lone = (0,) if name == "dct" else (-1,)
    if kind == 2:
        return trigonometric(_scaled_end(g, 2.0, lone), name=name, kind=3, norm=norm)
    if kind == 3:
        return _scaled_end(trigonometric(g, name=name, kind=2, norm=norm), 0.5, lone)
    if kind == 1 and name == "dct":
        return _scaled_end(trigonometric(_scaled_end(g, 2.0, (0, -1)), name=name, kind=1, norm=norm), 0.5, (0, -1))
    return trigonometric(g, name=name, kind=kind, norm=norm)


trigonometric: Primitive = Primitive(
    lambda x, *, name, kind, norm: getattr(_scipy_fft, name)(x, type=kind, norm=norm),
    name="cosine or sine transform",
    vjp={"x": _transpose},
    jvp={"x": LINEAR},
)


def _fit(x: Any, n: Any, axis: int) -> Any:
    """x cut or filled with zeros to n entries along an axis, which is moved last."""
    x = np.moveaxis(operand(x), axis, -1)
    if n is None or n == x.shape[-1]:
        return x
    if n < x.shape[-1]:
        return x[..., :n]
    return np.concatenate([x, np.zeros((*x.shape[:-1], n - x.shape[-1]), dtype=x.dtype)], axis=-1)


def _along_axis(name: str, x: Any, kind: int, n: Any, axis: int, norm: Any, orthogonalize: Any) -> Any:
    if orthogonalize is not None:
        raise NotDifferentiableError(f"scipy.fft.{name}(orthogonalize=...) is not differentiated; leave it out.")
    norm = norm or "backward"
    if name.startswith("i"):
        name, kind, norm = name[1:], INVERSE_TYPE[kind], OPPOSITE[norm]
    return np.moveaxis(trigonometric(_fit(x, n, axis), name=name, kind=kind, norm=norm), -1, axis)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`scipy.fft.{name}` for arrays and Tensors."
    return function


def _one_dimensional(name: str) -> Callable[..., Any]:
    def function(
        x: Any, type: int = 2, n: Any = None, axis: int = -1, norm: Any = None, orthogonalize: Any = None
    ) -> Any:
        return _along_axis(name, x, type, n, axis, norm, orthogonalize)

    return differentiates(getattr(_scipy_fft, name), "fft")(_named(function, name))


def _many_dimensional(name: str) -> Callable[..., Any]:
    def function(
        x: Any, type: int = 2, s: Any = None, axes: Any = None, norm: Any = None, orthogonalize: Any = None
    ) -> Any:
        x = operand(x)
        if axes is None:
            axes = range(x.ndim) if s is None else range(x.ndim - len(np.atleast_1d(s)), x.ndim)
        axes = np.atleast_1d(list(axes) if isinstance(axes, range) else axes)
        for axis, n in zip(axes, [None] * len(axes) if s is None else np.atleast_1d(s), strict=True):
            x = _along_axis(name[:-1], x, type, n, int(axis), norm, orthogonalize)
        return x

    return differentiates(getattr(_scipy_fft, name), "fft")(_named(function, name))


dct, idct, dst, idst = map(_one_dimensional, ("dct", "idct", "dst", "idst"))
dctn, idctn, dstn, idstn = map(_many_dimensional, ("dctn", "idctn", "dstn", "idstn"))


def _fourier(name: str) -> Callable[..., Any]:
    numpys = getattr(np.fft, name)

    def function(x: Any, *args: Any, **keywords: Any) -> Any:
        return numpys(operand(x), *args, **keywords)

    return differentiates(getattr(_scipy_fft, name), "fft")(_named(function, name))


fft, ifft, rfft, irfft, hfft, ihfft = map(_fourier, ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"))
fft2, ifft2, rfft2, irfft2 = map(_fourier, ("fft2", "ifft2", "rfft2", "irfft2"))
fftn, ifftn, rfftn, irfftn = map(_fourier, ("fftn", "ifftn", "rfftn", "irfftn"))
fftshift, ifftshift = map(_fourier, ("fftshift", "ifftshift"))


def __getattr__(name: str) -> Any:
    return getattr(_scipy_fft, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_fft)})
