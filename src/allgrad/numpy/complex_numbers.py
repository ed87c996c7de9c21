"""Complex numbers: real and imaginary part, absolute value, angle, and conjugate.

The convention is JAX's: a vjp is the transpose of the jvp under Re(sum(w * v)), without conjugation. So `real` passes its
cotangent g on unchanged, `imag` passes g * -1j (because Im(v) = Re(-1j * v)), and `conjugate` passes conj(g). The gradient of a
real function f of z = x + iy is therefore df/dx - i df/dy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.primitive import Primitive
from allgrad.numpy.arguments import is_complex, refuse
from allgrad.numpy.dispatch import implements, on_values, ufunc_rule
from allgrad.numpy.roots import rooted
from allgrad.numpy.singular import quotient

ufunc_rule(np.conjugate, vjp={"x": lambda g: np.conjugate(g)}, jvp={"x": lambda t: np.conjugate(t)})

_imag = Primitive(
    lambda z: z.imag, name="imag", vjp={"z": lambda g: g * -1j}, jvp={"z": lambda t: np.imag(t)}, views=True
)


@implements(np.imag)
def imag(val: Any) -> Any:
    return _imag(val) if is_complex(val) else np.zeros_like(val)


def _abs_vjp(g: Any, x: Any, ans: Any) -> Any:
    """d|z| = Re(conj(z) dz) / |z|; 0 at z = 0."""
    return g * (np.conjugate(quotient(x, ans)) if is_complex(x) else np.sign(x))


def _abs_jvp(t: Any, x: Any, ans: Any) -> Any:
    return np.real(t * np.conjugate(quotient(x, ans))) if is_complex(x) else t * np.sign(x)


_absolute = ufunc_rule(np.absolute, vjp={"x": _abs_vjp}, jvp={"x": _abs_jvp})


@implements(np.absolute)
def absolute(x: Any, /, **keywords: Any) -> Any:
    root = _absolute(x, **keywords)
    return root if keywords else rooted(root, lambda: np.real(x * np.conjugate(x)) if is_complex(x) else x * x)


_sign_of_reals = on_values(np.sign)


@implements(np.sign)
def sign(x: Any, /, **keywords: Any) -> Any:
    """z / |z| for complex z (0 at 0); piecewise constant for real x."""
    if not is_complex(x):
        return _sign_of_reals(x, **keywords)
    refuse("np.sign", **keywords)
    return quotient(x, np.absolute(x))


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    radians = np.arctan2(np.imag(z), np.real(z)) if is_complex(z) else np.arctan2(np.zeros_like(z), z)
    return np.rad2deg(radians) if deg else radians


@implements(np.real_if_close)
def real_if_close(a: Any, tol: float = 100) -> Any:
    if not is_complex(a) or np.iscomplexobj(np.real_if_close(a.value, tol)):
        return a
    return np.real(a)
