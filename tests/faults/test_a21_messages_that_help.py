"""Messages named a module that is no function, advised "3.0 for 3" for a dict, and did not name what works."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import LostGradientError, NoRuleError, NotDifferentiableError


def test_a_function_without_a_rule_names_what_exists():
    with pytest.raises(NoRuleError, match=r"np\.packbits") as error:
        np.packbits(ag.tensor([1.0], requires_grad=True))
    for name in ("Primitive", "custom_vjp"):
        assert f"ag.{name}" in str(error.value)
        assert callable(getattr(ag, name))


def test_arguments_that_are_no_numbers():
    for wrong, words in (
        (3, "write 3.0"),
        (np.arange(3), "astype"),
        ({1, 2}, "set"),
        ("x", "str"),
        (lambda: 0, "function"),
    ):
        with pytest.raises(NotDifferentiableError, match=words) as error:
            ag.grad(np.sum)(wrong)
        assert "argnums" in str(error.value)


def test_writing_into_a_plain_array_names_what_works():
    t = ag.tensor(2.0, requires_grad=True)
    a = np.zeros(2)
    with pytest.raises(ValueError, match="sequence") as error:
        a[0] = t
    advice = str(error.value.__cause__)
    assert isinstance(error.value.__cause__, LostGradientError)
    assert "np.zeros_like(t, shape=...)" in advice
    b = np.zeros_like(t, shape=2)
    b[0] = t * t
    c = ag.tensor(a)
    c[1] = t
    (np.sum(b) + np.sum(c) + np.sum(ag.numpy.array([t, 1.0]))).backward()
    assert float(t.grad) == 6.0
