"""Trap 15: nested derivatives do not take each other's perturbation for their own (Siskind & Pearlmutter 2005)."""

import itertools

import numpy as np
import pytest

import allgrad as ag

DERIVATIVES = {"forward": ag.derivative, "reverse": ag.grad}
PAIRS = list(itertools.product(DERIVATIVES.values(), repeat=2))


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_the_textbook_case(outer, inner):
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0) == 1.0  # confused: 2


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_an_inner_derivative_at_the_outer_variable(outer, inner):
    # d/dx [ x * d/dy (x y^2) at y = x ] = d/dx 2 x^3 = 6 x^2
    assert outer(lambda x: x * inner(lambda y: x * y * y)(x))(3.0) == 54.0


@pytest.mark.parametrize(("first", "second", "third"), list(itertools.product(DERIVATIVES.values(), repeat=3)))
def test_third_derivatives_in_every_mix_of_modes(first, second, third):
    x = 0.7

    def f(x):
        return np.exp(x) * np.sin(x)

    assert np.isclose(first(second(third(f)))(x), 2 * np.exp(x) * (np.cos(x) - np.sin(x)))


def test_sibling_derivatives_do_not_share_a_level():
    def f(x):
        one = ag.derivative(lambda y: x * y)(2.0)
        two = ag.derivative(lambda y: y * y * one)(x)
        return one * two

    # one = x, two = 2 x * x, f = 2 x^3
    assert ag.derivative(f)(2.0) == 24.0
    assert ag.grad(f)(2.0) == 24.0


def test_a_tangent_that_depends_on_the_outer_variable():
    def f(x):
        return ag.jvp(lambda y: y * y, (3.0 * x,), (x * x,))[1]  # 6 x * x^2

    assert ag.derivative(f)(2.0) == 72.0
    assert ag.grad(f)(2.0) == 72.0
