import copy
import pickle

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import AssignmentError, NoRuleError, NotDifferentiableError


def leaf(values):
    return ag.tensor(np.array(values, float), requires_grad=True)


def test_attributes_are_those_of_the_array():
    t = leaf([[1, 2, 3], [4, 5, 6]])
    assert (t.shape, t.ndim, t.size, t.dtype, len(t)) == ((2, 3), 2, 6, np.float64, 2)
    assert (t.nbytes, t.itemsize) == (48, 8)
    assert [row.tolist() for row in t] == [[1, 2, 3], [4, 5, 6]]
    assert 5.0 in t
    assert t.T.shape == t.mT.shape == (3, 2)


def test_the_repr_says_what_it_is():
    assert repr(leaf([1.0])) == "Tensor([1.], requires_grad=True)"
    assert repr(leaf([1.0]) * 2) == "Tensor([2.], from=multiply)"
    assert repr(ag.tensor(np.float32([1]))) == "Tensor([1.], dtype=float32)"
    assert f"{leaf(2.0):.3f}" == "2.000"


def test_tensor_copies_unless_told_otherwise():
    a = np.ones(3)
    t, u = ag.tensor(a), ag.tensor(a, copy=False)
    a[0] = 5
    assert t.tolist() == [1, 1, 1]
    assert u.tolist() == [5, 1, 1]
    assert ag.tensor(t.detach()).tolist() == [1, 1, 1]


def test_operators_both_ways_round():
    t, a = leaf([2.0, 3.0]), np.array([5.0, 7.0])
    cases = [
        (t + a, [7, 10]), (a + t, [7, 10]), (t - a, [-3, -4]), (a - t, [3, 4]), (t * a, [10, 21]), (a * t, [10, 21]),
        (t / a, [0.4, 3 / 7]), (a / t, [2.5, 7 / 3]), (t**2, [4, 9]), (2**t, [4, 8]), (-t, [-2, -3]), (+t, [2, 3]),
        (abs(-t), [2, 3]), (t % 2, [0, 1]), (7 % t, [1, 1]), (t // 2, [1, 1]), (7 // t, [3, 2]), (t @ a, 31), (a @ t, 31),
    ]  # fmt: skip
    for got, expected in cases:
        np.testing.assert_allclose(got.value, expected)
    quotient, rest = divmod(t, 2)
    assert (quotient.tolist(), rest.tolist()) == ([1, 1], [0, 1])
    for compared in (t == 2, t <= 2, t < 2.5):
        assert compared.tolist() == [True, False]
    for compared in (t != 2, t > 2, t >= 2.5):
        assert compared.tolist() == [False, True]


def test_rounding_and_rules_that_give_python_numbers():
    assert round(leaf(2.345), 1).item() == 2.3
    assert ag.grad(ag.custom_vjp(x=lambda g: 2.5)(lambda x: x * 2.5))(1.0) == 2.5


def test_item_assignment_is_a_differentiated_update():
    def f(x, v):
        y = x * 2.0
        y[1:] = v
        y[0] *= 3.0
        return np.sum(y * y)

    ag.check_grads(f, np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0]), order=2)
    ag.check_grads(lambda v: np.sum(f(ag.tensor(np.ones(3)), v)), 4.0)  # broadcast into the slice


def test_item_assignment_into_a_constant_makes_it_depend():
    v = leaf(3.0)
    y = ag.tensor(np.zeros(2))
    y[0] = v * v
    np.sum(y).backward()
    assert v.grad == 6.0


def test_item_assignment_to_a_leaf_is_refused_and_saved_arrays_stay():
    x = leaf([1.0, 2.0])
    with pytest.raises(AssignmentError, match=r"copy\(\)"):
        x[0] = 5.0
    z = x * 1.0
    square = np.sum(z * z)
    z[0] = 7.0  # what the product saved is not touched
    square.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_unknown_functions_raise_by_name_only_where_a_gradient_would_be_lost():
    with pytest.raises(NoRuleError, match=r"np\.histogram"):
        np.histogram(leaf([1.0, 2.0]))
    assert np.histogram(ag.tensor([1.0, 2.0]), bins=2)[0].tolist() == [1, 1]
    with pytest.raises(NoRuleError, match="out"):
        np.add(leaf([1.0]), 1.0, out=np.zeros(1))


def test_hooks_replace_and_observe():
    x = leaf([1.0, 2.0])
    y = x * 3.0
    seen = []
    remove = y.register_hook(lambda g: seen.append(g) or g * 10.0)
    np.sum(y).backward()
    assert x.grad.tolist() == [30.0, 30.0]
    assert seen[0].tolist() == [1.0, 1.0]
    remove()
    with pytest.raises(NotDifferentiableError):
        ag.tensor(1.0).register_hook(print)


def test_detach_copy_and_pickle():
    x = leaf([1.0, 2.0])
    y = x * 2.0
    assert not y.detach().requires_grad
    assert np.shares_memory(y.detach().value, y.value)
    assert not np.shares_memory(x.detach().value, x.value)  # a leaf's memory will be written
    twin = copy.deepcopy(x)
    assert twin.is_leaf
    assert twin.node is not x.node
    assert copy.copy(x).requires_grad
    np.sum(copy.deepcopy(y)).backward()  # a copy that depends on it
    assert x.grad.tolist() == [2.0, 2.0]
    with pytest.raises(TypeError, match=r"np\.save"):
        pickle.dumps(x)


def test_binding_a_leaf_to_memory():
    x = leaf([1.0, 2.0])
    memory = np.zeros((2, 2))
    x.bind(value=memory[0], grad=memory[1])
    np.sum(x * x).backward()
    assert memory.tolist() == [[1, 2], [2, 4]]
    x.assign([5.0, 6.0])
    assert memory[0].tolist() == [5, 6]
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        x.bind(grad=np.zeros(3))
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        x.assign(np.zeros(3))
    for call in (lambda t: t.assign(1.0), lambda t: t.bind(), lambda t: t.zero_grad(), lambda t: t.touch()):
        with pytest.raises(TypeError, match="leaves"):
            call(x * 1.0)
