"""Trap 13: only a single number may go backward without a cotangent, and a cotangent must fit."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import CotangentError, NotDifferentiableError


def test_a_missing_cotangent_names_the_shape():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(CotangentError, match=r"\(2,\)"):
        (x * 2.0).backward()


def test_a_wrong_cotangent_names_both_shapes():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(CotangentError, match=r"\(2,\).*\(3,\)"):
        (x * 2.0).backward(np.ones(3))
    assert x.grad is None


def test_a_cotangent_scales():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    (x * 2.0).backward([1.0, 10.0])
    assert np.array_equal(x.grad, [2.0, 20.0])


def test_grad_of_an_array_says_what_to_use():
    with pytest.raises(CotangentError, match="jacobian"):
        ag.grad(np.sin)(np.ones(3))


def test_untracked_results_and_integers_are_refused_by_name():
    with pytest.raises(NotDifferentiableError, match="requires_grad"):
        ag.tensor(1.0).backward()
    with pytest.raises(NotDifferentiableError, match=r"int64.*write 3.0"):
        ag.grad(lambda x: x * 2.0)(3)
    with pytest.raises(NotDifferentiableError, match="bool"):
        ag.tensor([True], requires_grad=True)


def test_wrong_tangents():
    with pytest.raises(CotangentError, match=r"\(2,\).*\(3,\)"):
        ag.jvp(np.sin, (np.ones(2),), (np.ones(3),))
    with pytest.raises(CotangentError, match="1 arrays against 2"):
        ag.jvp(np.sin, (np.ones(2),), (np.ones(2), np.ones(2)))
