"""The functions without a derivative, or with one that is zero wherever it exists, declared once."""

from __future__ import annotations

import numpy as np

from allgrad.numpy.dispatch import constant

constant(np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.result_type, np.can_cast, np.min_scalar_type)
constant(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
constant(np.zeros_like, np.ones_like, np.empty_like)
