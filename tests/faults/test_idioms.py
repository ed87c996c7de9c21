"""Forty-one ordinary ways to write NumPy code: each gives the right derivative, or an error; none is silently wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from idioms import IDIOMS, Idiom, X

import allgrad as ag

REFUSED = {"a function of the math module", "draw from a distribution with a parameter"}
"""What leaves NumPy or its functions: an error says what to write instead."""


def numerical(f: Any) -> np.ndarray[Any, Any]:
    h = 1e-6
    return np.array([(f(X + h * e) - f(X - h * e)) / (2 * h) for e in np.eye(len(X))])


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda i: i.name)
def test_idiom(idiom: Idiom) -> None:
    def f(x: Any) -> Any:
        return idiom.function(ag.numpy, x)

    if idiom.name in REFUSED:
        for compute in (lambda: ag.grad(f)(X), lambda: ag.jvp(f, (X,), (X,))):
            with pytest.raises(TypeError, match="detach"):
                compute()
        return
    want = numerical(lambda x: idiom.function(np, x.copy()))
    value, gradient = ag.value_and_grad(f)(X)
    np.testing.assert_allclose(value, idiom.function(np, X.copy()))
    np.testing.assert_allclose(gradient, want, rtol=1e-6, atol=1e-7)
    direction = np.array([0.3, -1.0, 0.5, 2.0])
    np.testing.assert_allclose(ag.jvp(f, (X,), (direction,))[1], want @ direction, rtol=1e-6, atol=1e-7)
    second = ag.jvp(ag.grad(f), (X,), (direction,))[1]
    h = 1e-5
    differences = (ag.grad(f)(X + h * direction) - ag.grad(f)(X - h * direction)) / (2 * h)
    np.testing.assert_allclose(second, differences, rtol=1e-5, atol=1e-6)


def test_at_least_38_are_right() -> None:
    assert len(IDIOMS) - len(REFUSED) >= 38
