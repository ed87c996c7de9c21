from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
import allgrad.numpy as anp


def test_array_of_tensors_keeps_every_gradient() -> None:
    x, y = ag.tensor(2.0, requires_grad=True), ag.tensor([1.0, 3.0], requires_grad=True)
    made = anp.array([[x, 5.0], y])
    np.testing.assert_array_equal(made.value, [[2, 5], [1, 3]])
    np.sum(made * np.array([[1.0, 2.0], [3.0, 4.0]])).backward()
    assert x.grad == 1.0
    np.testing.assert_array_equal(y.grad, [3.0, 4.0])


def test_array_of_tensors_in_forward_mode() -> None:
    _, tangent = ag.jvp(lambda x: anp.array([x * x, (x, 1.0)[0]]), (3.0,), (1.0,))
    np.testing.assert_array_equal(tangent, [6.0, 1.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, None])
@pytest.mark.parametrize("ndmin", [0, 1, 3])
def test_array_has_numpys_dtype_and_shape(dtype: type | None, ndmin: int) -> None:
    nested = [np.float32(1), 2.0], [3.0, np.float32(4)]
    want = np.array(nested, dtype, ndmin=ndmin)
    got = anp.array([[ag.tensor(v) for v in row] for row in nested], dtype, ndmin=ndmin)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert type(anp.array(nested, dtype, ndmin=ndmin)) is np.ndarray


def test_asarray_leaves_a_tensor_alone() -> None:
    x = ag.tensor([1.0], requires_grad=True)
    assert anp.asarray(x) is x
    assert anp.asarray(x, np.float32).dtype == np.float32
    assert anp.array(x) is not x
    assert type(anp.asarray([1.0])) is np.ndarray


def test_full_and_arange() -> None:
    gradient = ag.grad(lambda v: np.sum(anp.full((2, 3), v) * np.arange(3.0)))(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(gradient, [0.0, 2.0, 4.0])
    gradient = ag.grad(lambda a, s: np.sum(anp.arange(a, 4.0, s) ** 2), argnums=(0, 1))(1.0, 1.0)
    np.testing.assert_allclose(gradient, [2 * (1 + 2 + 3), 2 * (0 * 1 + 1 * 2 + 2 * 3)])
    np.testing.assert_array_equal(anp.arange(3), np.arange(3))
    np.testing.assert_array_equal(anp.full(2, 7), np.full(2, 7))
    assert ag.grad(lambda v: np.sum(anp.full_like(np.zeros((2, 2)), v)))(1.0) == 4.0


def test_the_namespace_is_numpys_where_it_adds_nothing() -> None:
    assert anp.float32 is np.float32
    assert anp.sin.ufunc is np.sin
    assert anp.einsum.__wrapped__ is np.einsum
    assert anp.linalg.LinAlgError is np.linalg.LinAlgError
    assert anp.random is np.random
    assert anp.broadcast is np.broadcast
    assert {"sin", "array", "coverage", "random"} <= set(dir(anp))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = anp.no_such_name
