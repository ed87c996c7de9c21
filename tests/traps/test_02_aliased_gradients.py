"""Trap 2: gradients never share memory with each other or with anything else."""

import numpy as np

import allgrad as ag


def test_writing_to_a_gradient_changes_nothing_else():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    y = ag.tensor([3.0, 4.0], requires_grad=True)
    np.sum(x + y).backward()  # both get the same cotangent
    x.grad[:] = 100.0
    assert np.array_equal(y.grad, [1.0, 1.0])
    assert np.array_equal(x.value, [1.0, 2.0])
    assert not np.shares_memory(x.grad, y.grad)


def test_gradients_returned_by_grad_are_independent_and_writable():
    gx, gy = ag.grad(lambda x, y: np.sum(x + y), argnums=(0, 1))(np.ones(3), np.ones(3))
    gx[0] = 7.0
    assert np.array_equal(gy, np.ones(3))


def test_the_cotangent_that_was_passed_in_is_not_written():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    c = np.ones(2)
    y = x + x + x
    y.backward(c)
    assert np.array_equal(c, [1.0, 1.0])
    assert np.array_equal(x.grad, [3.0, 3.0])
    x.grad[:] = 0.0
    assert np.array_equal(c, [1.0, 1.0])


def test_a_gradient_taken_before_a_second_backward_stays_as_it_was():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    np.sum(x * 2.0).backward()
    first = x.grad
    np.sum(x * 2.0).backward()
    assert np.array_equal(first, [2.0, 2.0])
    assert np.array_equal(x.grad, [4.0, 4.0])


def test_pullbacks_called_twice_give_separate_arrays():
    _, pullback = ag.vjp(lambda x: x + 0.0, np.ones(2))
    a = pullback(np.ones(2))[0]
    a[:] = 9.0
    assert np.array_equal(pullback(np.ones(2))[0], np.ones(2))
