"""`allgrad.numpy.polynomial`: NumPy's functions of polynomials in six bases, with Tensors as coefficients, roots and points."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy
import pytest

import allgrad as ag
import allgrad.numpy as np

FAMILIES = {
    "polynomial": "poly",
    "chebyshev": "cheb",
    "legendre": "leg",
    "hermite": "herm",
    "hermite_e": "herme",
    "laguerre": "lag",
}
A, B = numpy.array([1.0, 2.0, -3.0, 0.7]), numpy.array([0.5, 1.5, 2.0])
X = numpy.array([0.3, -0.4, 0.8, 0.1, 0.6])

CALLS = {
    "val": lambda m, p, a, b, x: getattr(m, f"{p}val")(x, a),
    "val of columns": lambda m, p, a, b, x: getattr(m, f"{p}val")(x[:3], np.outer(a, b)),
    "add": lambda m, p, a, b, x: getattr(m, f"{p}add")(a, b),
    "sub": lambda m, p, a, b, x: getattr(m, f"{p}sub")(b, a),
    "mul": lambda m, p, a, b, x: getattr(m, f"{p}mul")(a, b),
    "div": lambda m, p, a, b, x: getattr(m, f"{p}div")(a, b),
    "pow": lambda m, p, a, b, x: getattr(m, f"{p}pow")(b, 2),
    "der": lambda m, p, a, b, x: getattr(m, f"{p}der")(a, 2),
    "int": lambda m, p, a, b, x: getattr(m, f"{p}int")(a, 2, k=[1.0, 2.0]),
    "vander": lambda m, p, a, b, x: getattr(m, f"{p}vander")(x, 3),
    "fit": lambda m, p, a, b, x: getattr(m, f"{p}fit")(x, np.cos(x) * a[0], 2),
    "roots": lambda m, p, a, b, x: np.sort(np.abs(getattr(m, f"{p}roots")(a * numpy.array([0.1, 1, 0.2, 1])))),
    "fromroots": lambda m, p, a, b, x: getattr(m, f"{p}fromroots")(a),
    "val2d": lambda m, p, a, b, x: getattr(m, f"{p}val2d")(x, x * 2, np.outer(a, b)),
    "grid2d": lambda m, p, a, b, x: getattr(m, f"{p}grid2d")(x, x[:2] * 2, np.outer(a, b)),
    "trim": lambda m, p, a, b, x: getattr(m, f"{p}trim")(a),
    "to powers": lambda m, p, a, b, x: a if p == "poly" else getattr(m, f"{p}2poly")(a),
    "from powers": lambda m, p, a, b, x: a if p == "poly" else getattr(m, f"poly2{p}")(a),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CALLS)
def test_values_and_derivatives(family: str, name: str) -> None:
    def call(module: Any, *args: Any) -> Any:
        made = CALLS[name](getattr(module, family), FAMILIES[family], *args)
        return made if isinstance(made, tuple) else (made,)

    tracked = [ag.tensor(v, requires_grad=True) for v in (A, B, X)]
    for want, got in zip(call(numpy.polynomial, A, B, X), call(np.polynomial, *tracked), strict=True):
        numpy.testing.assert_allclose(getattr(got, "value", got), want, atol=1e-12)
    ag.check_grads(lambda *args: call(np.polynomial, *args), A, B, X, rtol=1e-4, atol=1e-4)


def test_a_coefficient_that_is_zero_by_chance_keeps_its_derivative() -> None:
    polynomial = np.polynomial.polynomial
    jacobian = ag.jacobian(lambda a: polynomial.polyadd(a, [1.0, -2.0]))(numpy.array([1.0, 2.0]))
    numpy.testing.assert_array_equal(jacobian, numpy.eye(2))


def test_classes_take_points_and_refuse_coefficients() -> None:
    assert np.polynomial.Polynomial is numpy.polynomial.Polynomial
    with pytest.raises(TypeError, match="gradient"):
        np.polynomial.Polynomial(ag.tensor(A, requires_grad=True))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = np.polynomial.nonsense


def test_a_fit_in_a_fresh_process() -> None:
    """The first call of a method of arrays (`min`) imports, and fails in functions whose globals have no builtins."""
    program = "import allgrad.numpy as np; print(float(np.polynomial.polynomial.polyfit([0.0, 1.0], [1.0, 3.0], 1)[0].item()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert round(float(done.stdout or "nan"), 6) == 1.0, done.stderr
