"""`scipy.special` with derivatives. The ufuncs work on Tensors under SciPy's own names too.

Importing this package fills the registry: each family of functions is a file. What is not listed by
`allgrad.scipy.coverage()` is SciPy's own, and raises when it gets a tracked Tensor.
"""

# ruff: noqa: F401

from typing import Any as _Any

import numpy as _numpy
import scipy.special as _scipy_special
from scipy.special import _ufuncs

from allgrad.scipy.special import bessel as _bessel
from allgrad.scipy.special import elementary as _elementary
from allgrad.scipy.special import elliptic as _elliptic
from allgrad.scipy.special import error as _error
from allgrad.scipy.special import gamma_functions as _gamma_functions
from allgrad.scipy.special import hypergeometric as _hypergeometric
from allgrad.scipy.special import incomplete as _incomplete
from allgrad.scipy.special import orthogonal as _orthogonal
from allgrad.scipy.special.functions import assoc_legendre_p as assoc_legendre_p
from allgrad.scipy.special.functions import comb as comb
from allgrad.scipy.special.functions import diric as diric
from allgrad.scipy.special.functions import factorial as factorial
from allgrad.scipy.special.functions import legendre_p as legendre_p
from allgrad.scipy.special.functions import log_softmax as log_softmax
from allgrad.scipy.special.functions import logsumexp as logsumexp
from allgrad.scipy.special.functions import multigammaln as multigammaln
from allgrad.scipy.special.functions import perm as perm
from allgrad.scipy.special.functions import polygamma as polygamma
from allgrad.scipy.special.functions import softmax as softmax
from allgrad.scipy.special.functions import sph_harm_y as sph_harm_y
from allgrad.scipy.special.functions import sph_legendre_p as sph_legendre_p
from allgrad.scipy.special.functions import spherical_in as spherical_in
from allgrad.scipy.special.functions import spherical_jn as spherical_jn
from allgrad.scipy.special.functions import spherical_kn as spherical_kn
from allgrad.scipy.special.functions import spherical_yn as spherical_yn


def __getattr__(name: str) -> _Any:
    # With SCIPY_ARRAY_API=1 SciPy wraps its ufuncs in functions that look for an array namespace: here is the ufunc itself.
    ufunc = getattr(_ufuncs, name, None)
    return ufunc if isinstance(ufunc, _numpy.ufunc) else getattr(_scipy_special, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_special)})
