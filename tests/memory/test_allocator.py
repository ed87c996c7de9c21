"""The default allocator."""

import numpy as np
import pytest

from allgrad.memory import ALIGNMENT, aligned_zeros


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
@pytest.mark.parametrize("length", [0, 1, 7, 1000, 100_003])
def test_aligned_zeroed_and_writable(length, dtype):
    a = aligned_zeros(length, dtype)
    assert a.shape == (length,)
    assert a.dtype == dtype
    assert a.ctypes.data % ALIGNMENT == 0
    assert not a.any()
    a[...] = 1
    assert a.flags.c_contiguous


def test_many_arrays_are_all_aligned():
    kept = [aligned_zeros(n, np.float32) for n in range(1, 200)]
    assert all(a.ctypes.data % ALIGNMENT == 0 for a in kept)


def test_negative_length_is_refused():
    with pytest.raises(ValueError, match="length must be 0 or more"):
        aligned_zeros(-1, np.float32)
