"""NumPy with derivatives: `import allgrad.numpy as np` is a drop-in for `import numpy as np`.

Plain `numpy` works on Tensors as well, through NumPy's protocols: `np.sin(t)`, `np.einsum("ij,j", a, t)`. This namespace has
the same functions, which also take lists of Tensors (`mean([x, y])`), plus those that NumPy does not call a Tensor for:
`array([x, y])`, `asarray`, `full_like`, `arange`, `r_`, `c_`, `vectorize`. Its `zeros`, `ones`, `empty` and `full` can be
filled with Tensors (`out[i] = t`). Every other name is NumPy's own (`float32`, `pi`, `random`).

It is also the array API namespace of Tensors. `coverage()` lists what is differentiated, `summary()` counts it.

Importing this package fills the table of rules: each family of rules is a file.
"""

# The order of imports is that of the floors: a family may use those above it. The methods of ufuncs come last.
# ruff: noqa: F401, I001

import importlib as _importlib
import sys as _sys
from typing import Any as _Any

import numpy as _numpy

from allgrad.autodiff.operators import RULES as _RULES
from allgrad.numpy import constant as _constant
from allgrad.numpy import elementwise as _elementwise
from allgrad.numpy import powers as _powers
from allgrad.numpy import complex_numbers as _complex_numbers
from allgrad.numpy import special_functions as _special_functions
from allgrad.numpy import broadcast as _broadcast
from allgrad.numpy import reductions as _reductions
from allgrad.numpy import cumulative as _cumulative
from allgrad.numpy import nan_functions as _nan_functions
from allgrad.numpy import sorting as _sorting
from allgrad.numpy import shaping as _shaping
from allgrad.numpy import products as _products
from allgrad.numpy import einsum as _einsum
from allgrad.numpy import indexing as _indexing
from allgrad.numpy import in_place as _in_place
from allgrad.numpy import joining as _joining
from allgrad.numpy import padding as _padding
from allgrad.numpy import sequences as _sequences
from allgrad.numpy import factorizations as _factorizations
from allgrad.numpy import linear_algebra as _linear_algebra
from allgrad.numpy import fourier as _fourier
from allgrad.numpy import polynomials as _polynomials
from allgrad.numpy import windows as _windows
from allgrad.numpy import emath as _emath
from allgrad.numpy import statistics as _statistics
from allgrad.numpy import ufunc_methods as _ufunc_methods
from allgrad.numpy import fft as fft
from allgrad.numpy import linalg as linalg
from allgrad.numpy import polynomial as polynomial
from allgrad.numpy.coverage import Row as Row
from allgrad.numpy.coverage import coverage as coverage
from allgrad.numpy.coverage import summary as summary
from allgrad.numpy.creation import arange as arange
from allgrad.numpy.creation import array as array
from allgrad.numpy.creation import asanyarray as asanyarray
from allgrad.numpy.creation import asarray as asarray
from allgrad.numpy.creation import empty as empty
from allgrad.numpy.creation import full as full
from allgrad.numpy.creation import full_like as full_like
from allgrad.numpy.creation import ones as ones
from allgrad.numpy.creation import zeros as zeros
from allgrad.numpy.functional import apply_along_axis as apply_along_axis
from allgrad.numpy.functional import c_ as c_
from allgrad.numpy.functional import frompyfunc as frompyfunc
from allgrad.numpy.functional import r_ as r_
from allgrad.numpy.functional import vectorize as vectorize
from allgrad.numpy.namespace import offer as _offer
from allgrad.numpy.standard import argsort as argsort
from allgrad.numpy.standard import clip as clip
from allgrad.numpy.standard import finfo as finfo
from allgrad.numpy.standard import iinfo as iinfo
from allgrad.numpy.standard import sort as sort

# Names that files of this package have too.
broadcast = _numpy.broadcast
einsum = _offer("einsum", _numpy, globals())
emath = _numpy.emath

_RULES["namespace"] = _sys.modules[__name__]  # what Tensor.__array_namespace__ returns


def __getattr__(name: str) -> _Any:
    if name == "special":  # where SciPy looks for its special functions if SCIPY_ARRAY_API=1 is set
        return _importlib.import_module("allgrad.scipy.special")
    return _offer(name, _numpy, globals())


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_numpy)})
