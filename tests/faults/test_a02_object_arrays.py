"""An array of dtype object made the result untracked, and the gradient zero, without a word."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import TapeError

OBJECTS = np.array([1.0, 2.0, 3.0], dtype=object)


@pytest.mark.parametrize("f", [lambda v: v * OBJECTS, lambda v: OBJECTS + v, lambda v: np.multiply(v, OBJECTS)])
def test_a_gradient_through_an_object_array_is_refused(f):
    with pytest.raises(TapeError, match="object"):
        ag.grad(lambda v: np.sum(f(v)))(np.ones(3))
    with pytest.raises(TapeError, match="object"):
        ag.jvp(f, (np.ones(3),), (np.ones(3),))
    with pytest.raises(TapeError, match="object"):
        f(ag.tensor(np.ones(3), requires_grad=True))


def test_arguments_that_are_no_numbers_are_named():
    with pytest.raises(TapeError, match="floating"):
        ag.grad(lambda s: 1.0)({"a": "text"})
