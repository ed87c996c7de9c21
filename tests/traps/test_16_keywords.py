"""Trap 16: keywords are honoured or refused by name, never ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import allgrad as ag

if TYPE_CHECKING:
    from collections.abc import Callable

M = np.array([[True, False, True], [True, True, False]])
X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_sum_honours_where() -> None:
    np.testing.assert_array_equal(ag.grad(lambda x: np.sum(x, where=M))(X), M)


def test_mean_honours_where() -> None:
    np.testing.assert_allclose(ag.grad(lambda x: np.mean(x, where=M))(X), M / 4)
    got = ag.grad(lambda x: np.sum(np.mean(x, axis=0, where=M)))(X)
    np.testing.assert_allclose(got, [[0.5, 0, 1], [0.5, 1, 0]])


def test_prod_max_and_std_honour_where() -> None:
    np.testing.assert_allclose(ag.grad(lambda x: np.prod(x, where=M))(X), np.where(M, 60 / X, 0))
    got = ag.grad(lambda x: np.max(x, where=M, initial=-np.inf))(X)
    np.testing.assert_array_equal(got, [[0, 0, 0], [0, 1, 0]])
    got = ag.grad(lambda x: np.std(x, where=M))(X)
    np.testing.assert_allclose(got[~M], 0)
    np.testing.assert_allclose(got[M], (X[M] - X[M].mean()) / X[M].std() / 4)


def test_a_mask_that_is_a_tensor_is_honoured_too() -> None:
    np.testing.assert_array_equal(ag.grad(lambda x: np.sum(x, where=x > 2.5))(X), X > 2.5)


def test_a_ufunc_honours_where() -> None:
    got = ag.grad(lambda x: np.sum(np.exp(x, where=M)))(X)
    np.testing.assert_allclose(got, np.where(M, np.exp(X), 0))


def test_initial_is_honoured_and_differentiated() -> None:
    gradient = ag.grad(lambda x, start: np.sum(x, initial=start), argnums=(0, 1))(X, 2.0)
    np.testing.assert_array_equal(gradient[0], np.ones_like(X))
    assert gradient[1] == 1.0
    gradient = ag.grad(lambda x, start: np.prod(x, initial=start), argnums=(0, 1))(X, 2.0)
    np.testing.assert_allclose(gradient[0], 1440 / X)
    assert gradient[1] == 720.0


def test_roll_with_a_tuple_of_shifts() -> None:
    got = ag.grad(lambda x: np.sum(np.roll(x, (1, 2), axis=(0, 1)) * X))(X)
    np.testing.assert_array_equal(got, np.roll(X, (-1, -2), axis=(0, 1)))


def test_diag_of_a_matrix_that_is_not_square() -> None:
    np.testing.assert_array_equal(ag.grad(lambda x: np.sum(np.diag(x, k=1)))(X), np.eye(2, 3, k=1))
    np.testing.assert_array_equal(ag.grad(lambda x: np.sum(np.diag(x.T, k=-1)))(X), np.eye(2, 3, k=1))


def test_where_keeps_a_scalars_shape() -> None:
    gradient = ag.grad(lambda s: np.sum(np.where(M, s, 0.0)))(2.0)
    assert np.shape(gradient) == ()
    assert gradient == 4.0


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "out of a ufunc": (lambda x: np.exp(x, out=np.empty_like(X)), "out"),
    "out of sum": (lambda x: np.sum(x, out=np.empty(())), "out"),
    "out of max": (lambda x: np.max(x, out=np.empty(())), "out"),
    "out of cumsum": (lambda x: np.cumsum(x, out=np.empty(6)), "out"),
    "out of clip": (lambda x: np.clip(x, 0, 1, out=np.empty_like(X)), "out"),
    "casting of a ufunc": (lambda x: np.add(x, 1, casting="no"), "casting"),
    "weights of quantile": (lambda x: np.quantile(x, 0.5, method="inverted_cdf", weights=X), "weights"),
    "overwrite_input of median": (lambda x: np.median(x, overwrite_input=True), "overwrite_input"),
    "order of sort": (lambda x: np.sort(x, order="f"), "order"),
    "copy of nan_to_num": (lambda x: np.nan_to_num(x, copy=False), "copy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_honoured_is_refused_by_name(name: str) -> None:
    call, keyword = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=keyword):
        call(ag.tensor(X, requires_grad=True))


def test_an_unknown_keyword_is_an_error() -> None:
    with pytest.raises(TypeError, match="axes"):
        np.sum(ag.tensor(X, requires_grad=True), axes=0)


def test_hips_autograd_ignores_where() -> None:
    """Why this trap exists: of sum(x, where=m) the numerical derivative is the mask, and HIPS autograd gives ones."""
    autograd = pytest.importorskip("autograd", reason="HIPS autograd is the peer that this test compares with")
    import autograd.numpy as anp

    assert not np.array_equal(autograd.grad(lambda x: anp.sum(x, where=M))(X), M)
