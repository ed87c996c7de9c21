"""The derivatives of NumPy's functions, and those functions for what NumPy's protocols cannot catch."""

from allgrad.numpy import constant as _constant
from allgrad.numpy import elementwise as _elementwise
from allgrad.numpy import reductions as _reductions
from allgrad.numpy import shaping as _shaping
from allgrad.numpy import products as _products
from allgrad.numpy import einsum as _einsum
from allgrad.numpy import indexing as _indexing
from allgrad.numpy import joining as _joining
