"""Results that the user could write, detached views of leaves, and arguments of recomputed regions changed later gradients."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import SavedArrayError


def test_what_numpy_sees_of_a_result_is_read_only():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    y = np.exp(x)
    for seen in (np.asarray(y.detach()), y.numpy(), np.asarray(ag.tensor([1.0]))):
        with pytest.raises(ValueError, match="read-only"):
            seen[:] = 0.0
    np.array(y.detach())[:] = 0.0  # a copy
    np.sum(y).backward()
    np.testing.assert_allclose(x.grad, np.exp([1.0, 2.0]))


def test_detached_views_of_a_leaf_do_not_share_its_memory():
    w = ag.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    for detached in (w.T.detach(), w[0].detach(), w.reshape(-1)[1:].detach(), w.detach()):
        assert not np.shares_memory(detached.value, w.value)
    with ag.no_grad():
        seen = w.T.detach()
        w *= 2.0
    assert seen.tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_the_value_that_vjp_returns_is_the_callers():
    y, pullback = ag.vjp(np.exp, np.ones(2))
    expected = pullback(np.ones(2))[0]
    y *= 0.0
    np.testing.assert_array_equal(pullback(np.ones(2))[0], expected)
    y, pullback, aux = ag.vjp(lambda x: (np.exp(x), np.exp(x)), np.ones(2), has_aux=True)
    aux *= 0.0
    np.testing.assert_array_equal(pullback(np.ones(2))[0], expected)


def test_a_function_that_writes_its_result_later_changes_no_pullback():
    kept = []

    def f(x):
        y = np.exp(x)
        kept.append(y)
        return y

    _, pullback = ag.vjp(f, np.ones(2))
    kept[0][:] = 0.0
    np.testing.assert_allclose(pullback(np.ones(2))[0], np.exp(np.ones(2)))


@pytest.mark.parametrize("size", [2, 3_000])
def test_arguments_of_a_recomputed_region(size):
    c = np.full(size, 2.0)
    x = ag.tensor(np.ones(size), requires_grad=True)
    y = np.sum(ag.checkpoint(lambda x, c, *, more: np.sin(x * c) * more["c"])(x, c, more={"c": c}))
    c[:] = 0.0
    y.backward()
    np.testing.assert_allclose(x.grad, 4.0 * np.cos(2.0))


def test_what_a_region_captured_and_was_changed_is_found():
    c = np.array([2.0, 2.0])
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    y = np.sum(ag.checkpoint(lambda x: x * c)(x))
    c[:] = 0.0
    with pytest.raises(SavedArrayError, match="another result"):
        y.backward()
    rng = np.random.default_rng(0)
    y = np.sum(ag.checkpoint(lambda x: x * rng.random(2))(x))
    with pytest.raises(SavedArrayError, match="random"):
        y.backward()


def test_a_region_may_write_to_its_arguments():
    def f(x):
        x[0] *= 3.0
        return np.sin(x)

    ag.check_grads(lambda x: ag.checkpoint(f)(x * 1.0), np.array([0.3, 0.4]), modes=("reverse",))


@pytest.mark.parametrize("read_only", [True, False])
def test_a_read_only_view_whose_base_is_written(read_only):
    base = np.arange(2_000.0)
    view = base[::2]
    view.flags.writeable = not read_only
    x = ag.tensor(np.ones(1_000), requires_grad=True)
    y = np.sum(x * view)
    base[:] = 0.0
    y.backward()
    assert np.array_equal(x.grad, np.arange(0.0, 2_000.0, 2.0))


def test_tangents_and_primals_of_jvp_are_copied():
    w = ag.tensor(np.ones(1_000), requires_grad=True)
    x, t = np.full(1_000, 2.0), np.full(1_000, 3.0)
    y, dy = ag.jvp(lambda x: w * x * x, (x,), (t,))
    x[:] = 0.0
    t[:] = 0.0
    np.sum(y + dy).backward()
    np.testing.assert_allclose(w.grad, 4.0 + 2 * 2.0 * 3.0)
