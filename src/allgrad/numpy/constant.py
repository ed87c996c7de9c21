"""Functions that have no derivative, or one that is zero wherever it exists.

They compute on the plain values. A floating result (floor, rint, zeros_like) is an untracked Tensor, so that expressions can
go on; booleans, indices and shapes are plain NumPy.
"""

from __future__ import annotations

import numpy as np

from allgrad.numpy.dispatch import constant

# Comparisons and logic.
constant(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
constant(np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
constant(np.all, np.any, np.allclose, np.isclose, np.array_equal, np.array_equiv)
constant(np.isfinite, np.isinf, np.isnan, np.isneginf, np.isposinf, np.signbit)
constant(np.iscomplex, np.isreal, np.iscomplexobj, np.isrealobj, np.isin)

# Whole numbers and rounding: constant between jumps.
constant(np.floor, np.ceil, np.rint, np.trunc, np.fix, np.round, np.around, np.floor_divide, np.spacing)
constant(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.bitwise_count, np.left_shift, np.right_shift)
constant(np.gcd, np.lcm, np.isnat, np.ix_)

# Positions and counts.
constant(np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.argpartition, np.lexsort, np.searchsorted)
constant(np.nonzero, np.flatnonzero, np.argwhere, np.count_nonzero, np.digitize)
constant(np.ravel_multi_index, np.unravel_index)

# Shapes, dtypes, memory.
constant(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.min_scalar_type, np.common_type)
constant(np.may_share_memory, np.shares_memory, np.einsum_path)
constant(np.zeros_like, np.ones_like, np.empty_like)
constant(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from)

# Text.
constant(np.array2string, np.array_repr, np.array_str)
