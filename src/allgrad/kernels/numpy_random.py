"""Random words with NumPy's generator; documented in `interface.Kernels`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array


def random_words(keys: Array, edges: Array) -> Array:
    """See `Kernels.random_words`."""
    words = np.empty(edges[-1], np.uint32)
    for key, (start, stop) in zip(keys, pairwise(edges.tolist()), strict=True):
        raw = np.random.Philox(key=key).random_raw((stop - start + 1) // 2)
        words[start:stop] = np.asarray(raw).astype("<u8", copy=False).view("<u4")[: stop - start]
    return words
