"""One-line changes that no test noticed: arguments of vjp, grad and jvp not copied, the tail of a large array not compared."""

import numpy as np

import allgrad as ag
from allgrad.autodiff.saved import keep


def test_arguments_of_vjp_are_copied():
    x = np.array([1.0, 2.0])
    _, pullback = ag.vjp(lambda x: x * x, x)
    x[:] = 0.0
    assert pullback(np.ones(2))[0].tolist() == [2.0, 4.0]


def test_arguments_of_grad_are_copied():
    x = np.array([1.0, 2.0])

    def f(v):
        y = np.sum(v * v)
        x[:] = 0.0
        return y

    assert ag.grad(f)(x).tolist() == [2.0, 4.0]


def test_arguments_of_jvp_are_copied():
    x, t = np.array([1.0, 2.0]), np.array([1.0, 1.0])

    def f(v):
        x[:] = 0.0
        t[:] = 0.0
        return v * v

    y, dy = ag.jvp(f, (x,), (t,))
    assert (y.tolist(), dy.tolist()) == ([1.0, 4.0], [2.0, 4.0])
    y[:] = 9.0
    assert dy.tolist() == [2.0, 4.0]


def test_cotangents_are_copied():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    g = np.array([1.0, 1.0])
    y = x + 0.0
    (y + y).backward(g)
    assert g.tolist() == [1.0, 1.0]
    assert not np.shares_memory(x.grad, g)


def test_every_byte_of_a_kept_array_counts():
    for size in (65_537, 70_003, 100_001):
        a = np.zeros(size, np.uint8)
        for place in (0, size // 2, size - 8, size - 1):
            before = keep(a)
            a[place] += 1
            assert keep(a)[place] == before[place] + 1


def test_a_number_that_only_changes_its_sign_bit_counts():
    a = np.zeros(10_000)
    before = keep(a)
    a[3] = -0.0
    assert keep(a) is not before


def test_gradients_of_aliases_do_not_share_memory():
    first, second = ag.grad(lambda a, b: np.sum(a + b), (0, 1))(np.ones(2), np.ones(2))
    assert not np.shares_memory(first, second)
    first[:] = 5.0
    assert second.tolist() == [1.0, 1.0]
