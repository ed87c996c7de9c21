"""A function that returns a dict, nothing, integers or text was differentiated to zeros. It raises, and says what came."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import NotDifferentiableError

X = np.array([1.0, 2.0])

RESULTS = {
    "dict": (lambda v: {"loss": np.sum(v * v)}, "dict"),
    "list": (lambda v: [np.sum(v * v)], "list"),
    "a pair": (lambda v: (np.sum(v * v), 1.0), "has_aux"),
    "no return": (lambda v: None, "return"),
    "an integer": (lambda v: int(np.ndim(v)), "int"),
    "integers": (lambda v: np.sum(v.astype(int)), "int64"),
    "a boolean": (lambda v: np.sum(v) > 1.0, "bool"),
    "text": (lambda v: "loss", "str"),
    "complex": (lambda v: np.sum(v) * 1j, "real"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_grad_says_what_came_instead_of_a_number(name):
    f, words = RESULTS[name]
    with pytest.raises(NotDifferentiableError, match=words):
        ag.grad(f)(X)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: ag.vjp(f, X),
        lambda f: ag.jvp(f, (X,), (X,)),
        lambda f: ag.jacobian(f)(X),
        lambda f: ag.jacobian(f, mode="forward")(X),
        lambda f: ag.derivative(f)(X),
    ],
    ids=["vjp", "jvp", "jacobian", "jacobian, forward", "derivative"],
)
@pytest.mark.parametrize("name", ["no return", "integers", "text"])
def test_the_other_transforms_too(transform, name):
    f, words = RESULTS[name]
    with pytest.raises(NotDifferentiableError, match=words):
        transform(f)


def test_a_constant_float_has_the_gradient_zero():
    assert ag.grad(lambda v: 3.0)(X).tolist() == [0.0, 0.0]


def test_a_missing_aux_is_named():
    with pytest.raises(NotDifferentiableError, match="aux"):
        ag.grad(np.sum, has_aux=True)(X)
