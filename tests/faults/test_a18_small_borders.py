"""Calls at the borders that ended in tracebacks: objects that decline ufuncs, divmod from the left, containers in jacobian."""

import numpy as np
import pytest

import allgrad as ag


def test_objects_that_decline_ufuncs_answer_with_their_own_operators():
    t = ag.tensor([1.0, 2.0])
    assert t[0] == pytest.approx(1.0 + 1e-9)
    assert pytest.approx(1.0 + 1e-9) == t[0]
    assert t[0] != pytest.approx(1.1)

    class Unit:
        __array_ufunc__ = None

        def __rmul__(self, other):
            return ("rmul", other)

        def __radd__(self, other):
            return ("radd", other)

        def __rmatmul__(self, other):
            return ("rmatmul", other)

        def __mul__(self, other):
            return ("mul", other)

    assert (t * Unit())[0] == "rmul"
    assert (t + Unit())[0] == "radd"
    assert (t @ Unit())[0] == "rmatmul"
    assert (Unit() * t)[0] == "mul"
    with pytest.raises(TypeError):
        t - Unit()
    with pytest.raises(TypeError, match=r"ufunc|supported"):
        t + "text"


def test_divmod_from_the_left_and_transpose_of_one_axis():
    t = ag.tensor([2.0, 3.0], requires_grad=True)
    quotient, rest = divmod(7.0, t)
    assert (quotient.tolist(), rest.tolist()) == ([3.0, 2.0], [1.0, 1.0])
    assert t.transpose(0).shape == (2,)
    assert t.transpose(None).shape == t.transpose().shape == t.transpose((0,)).shape == (2,)
    assert (t * np.ones((3, 2))).transpose(1, 0).shape == (2, 3)


def test_bits_of_integers_and_booleans():
    a, b = ag.tensor([6, 3]), ag.tensor([3, 1])
    for ours, theirs in [
        (a & b, [2, 1]), (a | b, [7, 3]), (a ^ b, [5, 2]), (a << b, [48, 6]), (a >> 1, [3, 1]), (1 << b, [8, 2]),
        (~a, [-7, -4]), (2 & a, [2, 2]), (np.array([1, 1]) | a, [7, 3]),
    ]:  # fmt: skip
        assert np.asarray(ours).tolist() == theirs
    x = ag.tensor([1.0, -1.0, 3.0], requires_grad=True)
    inside = (x > 0) & ~(x > 2)
    np.sum(x * x * inside).backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0]
    a &= 2
    a <<= 1
    assert np.asarray(a).tolist() == [4, 4]
    with pytest.raises(TypeError):
        x & 1


def test_jacobian_takes_containers_negative_argnums_and_aux():
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    pair = ag.jacobian(lambda x: (x * x, np.sum(x)))(x)
    np.testing.assert_allclose(pair[0], np.diag(2 * x))
    np.testing.assert_allclose(pair[1], [1.0, 1.0])
    for mode in ("reverse", "forward"):
        made = ag.jacobian(lambda p: {"out": p["a"] * p["b"][0]}, mode=mode)({"a": x, "b": [2.0]})
        np.testing.assert_allclose(made["out"]["a"], 2.0 * np.eye(2))
        np.testing.assert_allclose(made["out"]["b"][0], x)
        np.testing.assert_allclose(ag.jacobian(lambda x, y: x * y, -1, mode=mode)(x, y), np.diag(x))
        both = ag.jacobian(lambda x, y: x * y, (0, 1), mode=mode)(x, y)
        np.testing.assert_allclose(both[0], np.diag(y))
        np.testing.assert_allclose(both[1], np.diag(x))
        matrix, aux = ag.jacobian(lambda x: (x * 2.0, {"seen": x}), has_aux=True, mode=mode)(x)
        np.testing.assert_allclose(matrix, 2.0 * np.eye(2))
        assert np.asarray(aux["seen"]).tolist() == [1.0, 2.0]
        assert isinstance(aux["seen"], np.ndarray)
    with pytest.raises(ValueError, match="argnums"):
        ag.jacobian(np.sin, 1)(x)


def test_hessian_and_derivative_take_them_too():
    f = lambda p, s: s * p["a"] ** 2 * p["b"]  # noqa: E731
    h = ag.hessian(f)({"a": 2.0, "b": 3.0}, 5.0)
    assert (float(h["a"]["a"]), float(h["a"]["b"]), float(h["b"]["b"])) == (30.0, 20.0, 0.0)
    assert float(ag.hessian(f, (0, 1))({"a": 2.0, "b": 3.0}, 5.0)[1][0]["a"]) == 12.0
    h, aux = ag.hessian(lambda x: (np.sum(x**3), 7), has_aux=True)(np.array([1.0, 2.0]))
    np.testing.assert_allclose(h, np.diag([6.0, 12.0]))
    assert aux == 7
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    dx, dy = ag.derivative(lambda x, y: x * y * y, (0, 1))(x, y)
    np.testing.assert_allclose((dx, dy), (y * y, 2 * x * y))
    slope, aux = ag.derivative(lambda x: (x**2, "aux"), has_aux=True)(x)
    assert (slope.tolist(), aux) == ([2.0, 4.0], "aux")
    np.testing.assert_allclose(ag.derivative(lambda p: p["x"] * p["y"])({"x": x, "y": y})["x"], y)


def test_jacobian_inside_other_transforms():
    ag.check_grads(
        lambda x: ag.jacobian(lambda p: {"o": p["a"] ** 3})({"a": x})["o"]["a"], np.array([1.0, 2.0]), order=1
    )


def test_ravel_is_differentiable_in_both_directions():
    tree = {"a": np.array([[1.0, 2.0]]), "b": [3.0, np.float32(4.0)]}
    vector, unravel = ag.ravel(tree)
    assert vector.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert unravel(vector)["b"][1].dtype == np.float32
    ag.check_grads(lambda t: ag.ravel(t)[0] ** 2, {"a": np.ones((1, 2)), "b": [3.0]})
    ag.check_grads(lambda v: np.sum(unravel(v)["a"] ** 2) * unravel(v)["b"][0], vector)
    assert ag.ravel({})[0].shape == (0,)
    with pytest.raises(ValueError, match=r"\(4,\)"):
        unravel(np.zeros(3))
    with pytest.raises(TypeError, match="str"):
        ag.ravel({"a": "text"})
