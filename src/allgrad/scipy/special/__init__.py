"""`scipy.special` with derivatives. The ufuncs work on Tensors under SciPy's own names too.

Importing this package fills the registry: each family of functions is a file. What is not listed by
`allgrad.scipy.coverage()` is SciPy's own, and raises when it gets a tracked Tensor.
"""

# ruff: noqa: F401

from typing import Any as _Any

import scipy.special as _scipy_special

from allgrad.scipy.special import bessel as _bessel
from allgrad.scipy.special import elementary as _elementary
from allgrad.scipy.special import elliptic as _elliptic
from allgrad.scipy.special import error as _error
from allgrad.scipy.special import gamma_functions as _gamma_functions
from allgrad.scipy.special import hypergeometric as _hypergeometric
from allgrad.scipy.special import incomplete as _incomplete
from allgrad.scipy.special import orthogonal as _orthogonal


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_special, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_special)})
