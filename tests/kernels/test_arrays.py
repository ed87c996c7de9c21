"""Compiled code reads the header of an array as NumPy describes it, and refuses what is no array that it knows."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="the headers are read by compiled code")

from numba import int64

from allgrad.kernels.jit import entry_point
from allgrad.kernels.matmul import arrays
from allgrad.kernels.matmul.product import matmul

OBJECT = arrays.ObjectAddress()


def read(x, out):
    address = arrays.address_of(x)
    axes = arrays.ndim(address)
    out[0], out[1], out[2] = arrays.word(address + arrays.DATA), axes, arrays.size(address)
    out[3], out[4] = arrays.ends(address)
    for axis in range(axes):
        out[5 + 2 * axis], out[6 + 2 * axis] = arrays.length(address, axis), arrays.stride(address, axis)


def known(x, settings):
    return arrays.is_array(arrays.address_of(x), settings[0], settings[1], settings[2])


def test_the_header_says_what_numpy_says():
    compiled = entry_point(read, (OBJECT, int64[::1]), cache=False)
    room = np.zeros((5, 6, 7), np.float32)
    for x in (room, room[1:, ::-2], room.transpose(2, 0, 1)[::-1], room[0, 0], room[:0], np.float32(1)[None][0, ...]):
        out = np.zeros(20, np.int64)
        compiled(x, out)
        layout = [value for pair in zip(x.shape, x.strides, strict=True) for value in pair]
        expected = [x.ctypes.data, x.ndim, x.size, *layout]
        assert [*out[:3], *out[5 : 5 + 2 * x.ndim]] == expected
        if x.size:
            first, behind = np.lib.array_utils.byte_bounds(x)
            assert list(out[3:5]) == [first, behind - x.itemsize]


def test_only_plain_arrays_of_the_dtype_and_flags_are_known():
    compiled = entry_point(known, (OBJECT, int64[::1]), cache=False)

    def is_known(x, flags=arrays.ALIGNED | arrays.WRITEABLE):
        return compiled(x, np.array([id(np.ndarray), id(np.dtype(np.float32)), flags], np.int64))

    x = np.zeros(4, np.float32)
    fixed, shifted = x.copy(), np.zeros(17, np.uint8)[1:].view(np.float32)
    fixed.flags.writeable = False
    assert is_known(x)
    assert is_known(fixed, arrays.ALIGNED)
    assert not is_known(fixed)
    assert not is_known(shifted)
    others = (None, 1, 1.5, "x", [], np.float32(1), x.astype(">f4"), x.astype(np.float64), np.ma.array(x))
    assert not any(is_known(other) for other in others)


def test_arrays_of_other_kinds_are_multiplied_all_the_same(tmp_path):
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    tagged = np.dtype(np.float32, metadata={"unit": "m"})
    stored = np.memmap(tmp_path / "a", np.float32, "w+", shape=a.shape)
    stored[...] = a
    for same in (stored, a.astype(tagged), a.view(np.ma.MaskedArray)):
        np.testing.assert_array_equal(matmul(same, a.T), a @ a.T)
        np.testing.assert_array_equal(matmul(a, np.asarray(same).T, out=np.empty((3, 3), tagged)), a @ a.T)
    with pytest.raises(AttributeError):
        matmul(None, a)
