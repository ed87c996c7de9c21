"""The derivatives of NumPy's functions, and those functions for what NumPy's protocols cannot catch."""

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
from allgrad.numpy import ufunc_methods as _ufunc_methods
from allgrad.numpy import shaping as _shaping
from allgrad.numpy import products as _products
from allgrad.numpy import einsum as _einsum
from allgrad.numpy import indexing as _indexing
from allgrad.numpy import joining as _joining
from allgrad.numpy import padding as _padding
from allgrad.numpy import sequences as _sequences
