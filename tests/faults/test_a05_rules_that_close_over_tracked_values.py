"""A user's rule or hook that used a tracked value from outside gave 0 in reverse over reverse; forward over reverse gave 1."""

import numpy as np
import pytest

import allgrad as ag


def through_a_rule(w, x):
    @ag.custom_vjp(x=lambda g: g * w)
    def scaled(x):
        return x * 1.0

    scaled.defjvp(x=lambda t: t * w)
    return scaled(x)


def through_a_hook(w, x):
    y = x * 1.0
    y.register_hook(lambda g: g * w)
    return y


@pytest.mark.parametrize("f", [through_a_rule, through_a_hook])
def test_the_second_derivative_by_the_captured_value(f):
    inner = lambda w: ag.grad(lambda x: f(w, x))(2.0)  # noqa: E731
    assert float(ag.grad(inner)(3.0)) == 1.0
    assert float(ag.jvp(inner, (3.0,), (1.0,))[1]) == 1.0


def test_a_captured_leaf_of_the_tape():
    w = ag.tensor(3.0, requires_grad=True)
    gradient = ag.grad(lambda x: through_a_rule(w, x))(2.0)
    gradient.backward()
    assert float(w.grad) == 1.0


def test_the_first_order_result_is_plain_numpy():
    @ag.custom_vjp(x=lambda g, ans, x: g * ans * np.cos(x))
    def f(x):
        return np.exp(np.sin(x))

    f.defjvp(x=lambda t, ans, x: t * ans * np.cos(x))
    assert isinstance(ag.hvp(f, 0.5, 1.0), np.floating)
    assert isinstance(ag.grad(ag.grad(f))(0.5), np.floating)
    ag.check_grads(f, 0.5, order=3)
    value, gradient = ag.value_and_grad(f)(0.5)
    assert isinstance(gradient, np.floating)
    assert isinstance(value, np.floating)
    made = ag.grad(lambda x: through_a_rule(3.0, x))(np.float64(2.0))
    assert isinstance(made, np.floating)
    assert made == 3.0
    x = ag.tensor(2.0, requires_grad=True)
    through_a_rule(ag.tensor(3.0, requires_grad=True), x).backward()
    assert type(x.grad) is np.ndarray
    assert x.grad == 3.0
