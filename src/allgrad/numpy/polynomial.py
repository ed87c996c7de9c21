"""`numpy.polynomial` for Tensors as coefficients, roots and sample points.

NumPy's functions of polynomials are Python code that converts its arguments with `np.array`. Here the same functions run with
`allgrad.numpy` in the place of NumPy, so that Tensors pass. The classes (`Polynomial`, `Chebyshev`) are NumPy's own, and refuse
Tensors as coefficients.
"""

from __future__ import annotations

import builtins
import sys
from types import ModuleType
from typing import Any

import numpy as _numpy

from allgrad.autodiff.tensor import Tensor as _Tensor

_PACKAGE = "numpy.polynomial."
_NUMPY = "allgrad.numpy"  # looked up when it is used: it imports this module


class _Namespace:
    """`allgrad.numpy` for code that asks whether something is an array by `isinstance(x, np.ndarray)`."""

    ndarray = (_numpy.ndarray, _Tensor)

    def array(self, object: Any, **options: Any) -> Any:
        """An array that Tensors may be added into."""
        made = sys.modules[_NUMPY].array(object, **options)
        return made if isinstance(made, _Tensor) or made.dtype.kind not in "fc" else _Tensor(made)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules[_NUMPY], name)


_NAMESPACE = _Namespace()


def _on_tensors(source: ModuleType) -> ModuleType:
    """A copy of one of NumPy's modules of polynomials, whose functions see `allgrad.numpy`."""
    copy = ModuleType(f"allgrad.{source.__name__}", source.__doc__)
    sys.modules[copy.__name__] = copy  # the functions import each other's modules by relative names
    scope = copy.__dict__
    scope["__package__"] = "allgrad.numpy.polynomial"
    scope["__builtins__"] = builtins  # methods of arrays import, in C, by the globals of the function that calls them
    for name, f in vars(source).items():
        f = getattr(f, "_implementation", f)
        home = getattr(f, "__module__", None) or ""
        if hasattr(f, "__code__") and home == source.__name__:
            made = type(f)(f.__code__, scope, f.__name__, f.__defaults__, f.__closure__)
            made.__kwdefaults__, made.__doc__ = f.__kwdefaults__, f.__doc__
            scope[name] = made
        elif hasattr(f, "__code__") and home.startswith(_PACKAGE):  # from another of these modules
            scope[name] = getattr(__getattr__(home.removeprefix(_PACKAGE)), f.__name__)
        elif isinstance(f, ModuleType) and f.__name__.startswith(_PACKAGE):
            scope[name] = __getattr__(f.__name__.removeprefix(_PACKAGE))
        elif f is _numpy:
            scope[name] = _NAMESPACE
        elif f is _numpy.linalg:
            scope[name] = _NAMESPACE.linalg
        elif not name.startswith("__"):
            scope[name] = f
    if source is _numpy.polynomial.polyutils:
        scope["trimseq"] = _trimmed
    return copy


def _trimmed(seq: Any) -> Any:
    """Coefficients without zeros at the end; those of a tracked Tensor stay, since their derivatives need not be zero."""
    tracked = isinstance(seq, _Tensor) and (seq.node is not None or seq.tangents is not None)
    return seq if tracked else _numpy.polynomial.polyutils.trimseq(seq)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = getattr(_numpy.polynomial, name)
    if not isinstance(found, ModuleType) or name.startswith("_"):
        return found
    if name not in ("polyutils", "polynomial"):
        __getattr__("polynomial")
    made = sys.modules.get(f"allgrad.{found.__name__}")
    return _on_tensors(found) if made is None else made


def __dir__() -> list[str]:
    return dir(_numpy.polynomial)
