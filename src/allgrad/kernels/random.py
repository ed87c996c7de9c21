"""Random words, with NumPy's generator."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from allgrad.kernels.blocks import AnyDtype, Array


class Random:
    random: Any

    def random_words(self, keys: Array, edges: Array) -> Array:
        """Words edges[i] to edges[i + 1] of the result are the first of Philox 4x64 with the key keys[i]: (edges[-1],) uint32.

        Each 64-bit word of the generator, in its order, gives its lower half and then its upper half.

        Args:
            keys: (n, 2) uint64.
            edges: (n + 1,) int64, from 0 up.
        """
        words = np.empty(edges[-1], np.uint32)
        self.random.random_words[words.dtype](keys.view(np.int64).reshape(-1), edges, words)
        return words


@AnyDtype
def random_words(keys: Array, edges: Array, words: Array) -> None:
    for key, (start, stop) in zip(keys.view(np.uint64).reshape(-1, 2), pairwise(edges.tolist()), strict=True):
        raw = np.random.Philox(key=key).random_raw((stop - start + 1) // 2)
        words[start:stop] = np.asarray(raw).astype("<u8", copy=False).view("<u4")[: stop - start]
