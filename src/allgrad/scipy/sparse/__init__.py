"""`scipy.sparse` with Tensors: products with constant matrices, matrices with Tensors for entries, linear systems."""

from typing import Any as _Any

import scipy.sparse as _scipy_sparse

from allgrad.scipy.sparse import linalg as linalg
from allgrad.scipy.sparse.matrix import SparseTensor as SparseTensor
from allgrad.scipy.sparse.matrix import coo_array as coo_array
from allgrad.scipy.sparse.matrix import csr_array as csr_array
from allgrad.scipy.sparse.matrix import diags_array as diags_array


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_sparse, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_sparse)})
