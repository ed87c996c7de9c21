"""NumPy with derivatives: `import allgrad.numpy as anp` is a drop-in for `import numpy as np`.

Plain `numpy` works on Tensors as well, through NumPy's protocols: `np.sin(t)`, `np.einsum("ij,j", a, t)`. This namespace
is the same functions, plus those that the protocols cannot catch, since they are not called on a Tensor itself:
`array([x, y])`, `asarray`, `full`, `full_like`, `arange`. Every other name is NumPy's own (`anp.float32`, `anp.pi`,
`anp.linalg.norm`, `anp.random`). `coverage()` is the table of what is differentiated, `summary()` its counts.

Importing this package fills the registry: each family of rules is a file.
"""

# The order of imports is that of the floors: a family may use those above it. The methods of ufuncs come last.
# ruff: noqa: F401, I001

from typing import Any as _Any

import numpy as _numpy

from allgrad.numpy import constant as _constant
from allgrad.numpy import elementwise as _elementwise
from allgrad.numpy import powers as _powers
from allgrad.numpy import complex_numbers as _complex_numbers
from allgrad.numpy import special as _special
from allgrad.numpy import broadcast as _broadcast
from allgrad.numpy import reductions as _reductions
from allgrad.numpy import cumulative as _cumulative
from allgrad.numpy import nan_functions as _nan_functions
from allgrad.numpy import sorting as _sorting
from allgrad.numpy import shaping as _shaping
from allgrad.numpy import products as _products
from allgrad.numpy import einsum as _einsum
from allgrad.numpy import indexing as _indexing
from allgrad.numpy import joining as _joining
from allgrad.numpy import padding as _padding
from allgrad.numpy import sequences as _sequences
from allgrad.numpy import factorizations as _factorizations
from allgrad.numpy import linalg as _linalg
from allgrad.numpy import fft as _fft
from allgrad.numpy import statistics as _statistics
from allgrad.numpy import ufunc_methods as _ufunc_methods
from allgrad.numpy.coverage import Row as Row
from allgrad.numpy.coverage import coverage as coverage
from allgrad.numpy.coverage import summary as summary
from allgrad.numpy.creation import arange as arange
from allgrad.numpy.creation import array as array
from allgrad.numpy.creation import asarray as asarray
from allgrad.numpy.creation import full as full
from allgrad.numpy.creation import full_like as full_like

# NumPy's own under names that files of this package have too.
broadcast = _numpy.broadcast
einsum = _numpy.einsum
fft = _numpy.fft
linalg = _numpy.linalg


def __getattr__(name: str) -> _Any:
    try:
        return getattr(_numpy, name)
    except AttributeError:
        raise AttributeError(f"neither allgrad.numpy nor numpy has {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_numpy)})
