from __future__ import annotations

import numpy as np
import pytest
from cases import Case, check, drawn
from cases_elementwise import CASES

import allgrad as ag


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case: Case, seed: int) -> None:
    check(case, seed)


def test_the_derivatives_of_i0_solve_bessels_equation() -> None:
    """x^2 y'' + x y' = x^2 y, small and large, to rounding."""
    x = np.array([-300.0, -20.0, -1e-3, 0.2, 5.0, 60.0, 700.0])
    first = ag.derivative(np.i0)
    second = ag.derivative(first)
    np.testing.assert_allclose(second(x) + first(x) / x, np.i0(x), rtol=1e-12)


def test_the_derivatives_of_sinc_solve_their_equation() -> None:
    """x y = sin(pi x) / pi, differentiated twice and thrice; the series and the recurrence meet inside."""
    x = np.linspace(-3, 3, 61)
    first = ag.derivative(np.sinc)
    second = ag.derivative(first)
    third = ag.derivative(second)
    np.testing.assert_allclose(x * second(x) + 2 * first(x), -np.pi * np.sin(np.pi * x), atol=1e-12)
    np.testing.assert_allclose(x * third(x) + 3 * second(x), -(np.pi**2) * np.cos(np.pi * x), atol=1e-11)


def test_whole_powers_are_multiplied_out_to_numpys_value() -> None:
    x = np.array([-1.7, 0.0, 0.3, 2.5])
    for n in range(9):
        np.testing.assert_allclose((ag.tensor(x) ** n).value, x**n, rtol=1e-15)


def test_outer_of_another_ufunc() -> None:
    x = np.array([1.0, 2.0])
    gradient = ag.grad(lambda x: np.sum(np.maximum.outer(x, np.array([0.0, 1.5, 3.0]))))(x)
    np.testing.assert_array_equal(gradient, [1.0, 2.0])
