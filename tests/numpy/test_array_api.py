"""Tensors and `allgrad.numpy` as the array API standard describes them; docs/array_api.md has the results of its own suite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag
import allgrad.numpy as xp

A = np.array([[3.0, 1.0, 2.0], [0.5, 4.0, 1.5]])
T = ag.tensor(A)
TRACKED = ag.tensor(A, requires_grad=True)
SQUARE = np.array([[4.0, 1.0], [1.0, 3.0]])


def plain(x: Any) -> Any:
    return tuple(map(plain, x)) if isinstance(x, tuple) else getattr(x, "value", x)


def test_the_namespace_of_a_tensor() -> None:
    assert T.__array_namespace__() is xp
    assert T.__array_namespace__(api_version="2024.12") is xp
    with pytest.raises(ValueError, match=r"1999\.1"):
        T.__array_namespace__(api_version="1999.1")
    info = xp.__array_namespace_info__()
    assert info.default_device() == "cpu"
    assert info.default_dtypes()["real floating"] == np.float64
    assert set(info.dtypes(kind="complex floating")) == {"complex64", "complex128"}


def test_devices_and_the_exchange_of_memory() -> None:
    assert T.device == "cpu"
    assert T.to_device("cpu") is T
    with pytest.raises(ValueError, match="cuda"):
        T.to_device("cuda")
    assert T.__dlpack_device__() == A.__dlpack_device__()
    np.testing.assert_array_equal(np.from_dlpack(T), A)
    with pytest.raises(TypeError, match="gradient"):
        np.from_dlpack(TRACKED)


CALLS = [
    lambda m, x: m.permute_dims(x, (1, 0)),
    lambda m, x: m.matrix_transpose(x),
    lambda m, x: m.vecdot(x, x, axis=0),
    lambda m, x: m.unique_all(x),
    lambda m, x: m.unique_counts(x),
    lambda m, x: m.unique_inverse(x),
    lambda m, x: m.unique_values(x),
    lambda m, x: m.cumulative_sum(x, axis=1, include_initial=True),
    lambda m, x: m.cumulative_prod(x, axis=0),
    lambda m, x: m.searchsorted(m.sort(m.reshape(x, (-1,))), x),
    lambda m, x: m.take_along_axis(x, m.argsort(x, axis=1), axis=1),
    lambda m, x: m.take(x, m.asarray([1, 0]), axis=1),
    lambda m, x: m.astype(x, m.float32),
    lambda m, x: m.concat([x, x], axis=None),
    lambda m, x: m.unstack(x, axis=1),
    lambda m, x: m.isdtype(x.dtype, "real floating"),
    lambda m, x: m.result_type(x, m.float32),
    lambda m, x: m.can_cast(x.dtype, m.float32),
    lambda m, x: m.finfo(x.dtype).eps,
    lambda m, x: m.clip(x, 1.0, 2.0),
    lambda m, x: m.count_nonzero(x > 1, axis=0),
    lambda m, x: m.diff(x, axis=0),
    lambda m, x: m.moveaxis(x, 0, 1),
    lambda m, x: m.tile(x, (2, 1)),
    lambda m, x: m.repeat(x, 2, axis=1),
    lambda m, x: m.bitwise_invert(m.astype(x, m.int64)),
    lambda m, x: m.signbit(-x),
    lambda m, x: m.copysign(x, -x),
    lambda m, x: m.var(x, axis=1, correction=1.0),
    lambda m, x: m.linalg.vector_norm(x, axis=1),
    lambda m, x: m.linalg.matrix_norm(x),
    lambda m, x: m.linalg.svdvals(x),
    lambda m, x: m.linalg.matrix_rank(x),
    lambda m, x: m.linalg.cross(x, x[:, ::-1]),
    lambda m, x: m.linalg.diagonal(x, offset=1),
    lambda m, x: m.linalg.outer(x[0], x[1]),
    lambda m, x: m.fft.rfft(x, axis=0),
    lambda m, x: m.fft.fftshift(m.fft.fftn(x)),
]


@pytest.mark.parametrize("call", CALLS)
def test_functions_give_what_numpy_gives(call: Any) -> None:
    want, got = call(np, A), call(xp, T)
    for w, g in zip(
        want if isinstance(want, tuple) else (want,), got if isinstance(got, tuple) else (got,), strict=True
    ):
        np.testing.assert_allclose(plain(g), w) if np.asarray(w).dtype.kind in "fciub" else None
        assert getattr(g, "dtype", None) == getattr(w, "dtype", None)


def test_the_standards_further_arguments() -> None:
    np.testing.assert_array_equal(plain(xp.sort(T, descending=True)), np.sort(A)[:, ::-1])
    ties = np.array([1, 2, 2, 1])
    np.testing.assert_array_equal(xp.argsort(ties, descending=True), [1, 2, 0, 3])
    np.testing.assert_array_equal(plain(xp.clip(T, min=1.0, max=2.0)), np.clip(A, 1.0, 2.0))
    np.testing.assert_array_equal(plain(xp.clip(T, a_min=1.0, a_max=None)), np.clip(A, 1.0, None))
    assert xp.fft.fftfreq(4, dtype=np.float32).dtype == np.float32
    assert xp.fft.rfftfreq(4, d=0.5, device="cpu")[1] == 0.5
    assert xp.iinfo(xp.asarray(1, dtype=xp.int8)).max == xp.iinfo(np.int8).max == 127
    assert xp.asarray(T, copy=True) is not T
    assert xp.asarray(T, copy=False) is T
    with pytest.raises(ValueError, match="copy"):
        xp.asarray(T, dtype=xp.float32, copy=False)


def test_descending_sort_is_differentiated() -> None:
    ag.check_grads(lambda x: xp.sort(x, axis=0, descending=True), A)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float32", "float64", "complex64"])
@pytest.mark.parametrize("other", ["int8", "uint8", "int32", "float32", "float64", "complex128"])
def test_types_promote_as_in_numpy_with_arrays_on_either_side(dtype: str, other: str) -> None:
    a, b = np.ones(2, dtype), np.ones(2, other)
    for x, y in ((ag.tensor(a), ag.tensor(b)), (ag.tensor(a), b), (a, ag.tensor(b))):
        assert (x + y).dtype == (a + b).dtype
        assert xp.multiply(x, y).dtype == (a * b).dtype
        assert xp.concat([x, y]).dtype == xp.result_type(a, b)
    assert (ag.tensor(a) * 2).dtype == (a * 2).dtype


def test_bits_and_logic() -> None:
    i, j = np.array([6, 3]), np.array([5, 1])
    s, t = ag.tensor(i), ag.tensor(j)
    for got, want in ((s & t, i & j), (s | j, i | j), (i ^ t, i ^ j), (s << t, i << j), (s >> 1, i >> 1), (~s, ~i)):
        np.testing.assert_array_equal(plain(got), want)
    np.testing.assert_array_equal(plain((T > 1) & ~(T > 3)), (A > 1) & ~(A > 3))


def test_a_function_in_pure_array_api_code_is_differentiated() -> None:
    def logsumexp(x: Any) -> Any:
        m = x.__array_namespace__()
        top = m.max(x, axis=-1, keepdims=True)
        return m.squeeze(m.log(m.sum(m.exp(x - top), axis=-1, keepdims=True)) + top, axis=-1)

    ag.check_grads(logsumexp, A)
    ag.check_grads(lambda x: x.__array_namespace__().linalg.solve(x, SQUARE), SQUARE)
