"""Random words: those of NumPy's Philox, for several keys at once."""

import numpy as np


def test_words_are_those_of_numpys_generator(kernels):
    counts = [1, 0, 2, 7, 8, 9, 1000, 15]
    edges = np.array([0, *np.cumsum(counts)])
    keys = np.random.default_rng(0).integers(0, 2**64, (len(counts), 2), np.uint64)
    keys[-1] = 2**64 - 1
    words = kernels.random_words(keys, edges)
    assert words.dtype == np.uint32
    for key, start, count in zip(keys, edges, counts, strict=False):
        raw = np.random.Philox(key=key).random_raw(count // 2 + 1)
        halves = np.stack((raw & 0xFFFFFFFF, raw >> np.uint64(32)), axis=1).reshape(-1)
        assert words[start : start + count].tolist() == halves[:count].tolist()
