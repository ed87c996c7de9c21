import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import allgrad as ag
from allgrad.autodiff.errors import CotangentError, NotDifferentiableError

X = np.array([0.3, -1.2, 2.0])


def f(x):
    return np.sum(np.sin(x) * x**2)


def test_plain_numbers_and_arrays_come_back_plain():
    assert type(ag.grad(np.sin)(0.5)) is np.float64
    assert type(ag.grad(f)(X)) is np.ndarray
    assert ag.grad(lambda x: np.sum(x * x))(X.astype(np.float32)).dtype == np.float32
    value, tangent = ag.jvp(np.sin, (X,), (X,))
    assert type(value) is type(tangent) is np.ndarray


def test_nested_containers():
    parameters = {"w": X, "layers": [(np.eye(3), 2.0), (np.ones((3, 3)), 3.0)]}

    def loss(p):
        h = p["w"]
        for matrix, scale in p["layers"]:
            h = np.tanh(matrix @ h) * scale
        return np.sum(h * h)

    g = ag.grad(loss)(parameters)
    assert list(g) == ["w", "layers"]
    for i, (matrix, scale) in enumerate(parameters["layers"]):
        assert g["layers"][i][0].shape == matrix.shape

        def of_scale(s, i=i):
            layers = [(m, s if j == i else t) for j, (m, t) in enumerate(parameters["layers"])]
            return loss({"w": X, "layers": layers})

        np.testing.assert_allclose(g["layers"][i][1], ag.numerical_grad(of_scale, np.array(scale)), rtol=1e-6)
    ag.check_grads(loss, parameters)


def test_argnums_and_aux():
    def g(x, y, k=1.0):
        return np.sum(x * y) * k, {"twice": x * 2}

    (gx, gy), aux = ag.grad(g, argnums=(0, 1), has_aux=True)(X, X + 1, k=2.0)
    np.testing.assert_array_equal(gx, 2 * (X + 1))
    np.testing.assert_array_equal(gy, 2 * X)
    np.testing.assert_array_equal(aux["twice"], 2 * X)
    assert type(aux["twice"]) is np.ndarray
    (value, _), _ = ag.value_and_grad(g, has_aux=True)(X, X)
    assert value == np.sum(X * X)
    with pytest.raises(ValueError, match="argnums=2"):
        ag.grad(f, argnums=2)(X)


def test_a_result_that_does_not_depend_on_the_argument():
    np.testing.assert_array_equal(ag.grad(lambda x: 3.0)(X), np.zeros(3))
    np.testing.assert_array_equal(ag.grad(lambda x: np.sum(np.floor(x)))(X), np.zeros(3))
    assert ag.jvp(lambda x: 3.0, (X,), (X,))[1] == 0.0


def test_vjp_of_several_results_in_one_walk():
    value, pullback = ag.vjp(lambda x, y: {"a": x * y, "b": [np.sum(x), y]}, X, X + 1)
    cotangents = pullback({"a": np.ones(3), "b": [2.0, np.zeros(3)]})
    np.testing.assert_array_equal(cotangents[0], X + 1 + 2)
    np.testing.assert_array_equal(cotangents[1], X)
    assert value["b"][0] == np.sum(X)
    again = pullback({"a": np.zeros(3), "b": [1.0, np.zeros(3)]})
    np.testing.assert_array_equal(again[0], np.ones(3))
    with pytest.raises(CotangentError, match="3 arrays"):
        pullback(np.ones(3))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_jacobian(mode):
    def g(x):
        return np.stack([x[0] * x[1], np.sin(x[2])])

    expected = [[X[1], X[0], 0], [0, 0, np.cos(X[2])]]
    np.testing.assert_allclose(ag.jacobian(g, mode=mode)(X), expected)
    a = np.arange(6.0).reshape(2, 3)
    assert ag.jacobian(lambda x: a @ x, mode=mode)(X).shape == (2, 3)
    np.testing.assert_allclose(ag.jacobian(lambda m: m @ X, mode=mode)(a), np.einsum("ik,j->ikj", np.eye(2), X))
    assert ag.jacobian(lambda x: x * 2, mode=mode)(np.zeros(0)).shape == (0, 0)
    with pytest.raises(ValueError, match="sideways"):
        ag.jacobian(g, mode="sideways")


def test_hessian_and_hvp_agree():
    h = ag.hessian(f)(X)
    expected = np.diag(-np.sin(X) * X**2 + 4 * X * np.cos(X) + 2 * np.sin(X))
    np.testing.assert_allclose(h, expected, rtol=1e-12)
    np.testing.assert_allclose(ag.hvp(f, X, X), h @ X, rtol=1e-12)


@pytest.mark.parametrize("modes", list(itertools.product(["reverse", "forward"], repeat=2)))
def test_second_derivatives_in_every_mix(modes):
    inner, outer = modes
    got = ag.jacobian(ag.jacobian(f, mode=inner), mode=outer)(X)
    np.testing.assert_allclose(got, ag.hessian(f)(X), rtol=1e-12)


def test_captured_values_are_differentiated_through():
    """The inner derivative's result depends on an outer variable that the inner function only captured."""

    def outer(w):
        return np.sum(ag.grad(lambda x: np.sum(np.sin(w * x)))(X) ** 2)

    ag.check_grads(outer, np.array([0.5, 1.5, -0.3]), order=2)


def test_a_captured_value_that_is_returned_as_it_is():
    w = ag.tensor(X, requires_grad=True)
    for captured in (w, w * 1.0):
        value, (cotangent,) = (lambda y, pullback: (y, pullback(np.ones(3))))(*ag.vjp(lambda x, c=captured: c, X))
        assert value.requires_grad
        np.testing.assert_array_equal(cotangent, np.zeros(3))
        w.zero_grad()
        np.sum(value).backward()
        np.testing.assert_array_equal(w.grad, np.ones(3))


def test_a_transform_inside_no_grad_still_works_and_leaves_no_trace():
    w = ag.tensor(X, requires_grad=True)
    with ag.no_grad():
        g = ag.grad(lambda x: np.sum(x * w))(X)
    np.testing.assert_array_equal(g, X)
    assert type(g) is np.ndarray


def test_complex_gradients_follow_the_stated_convention():
    z = np.array([0.5 + 1j, -0.3 + 0.2j])
    g = ag.grad(lambda z: np.sum(np.abs(z) ** 2))(z)  # x^2 + y^2: df/dx - i df/dy
    np.testing.assert_allclose(g, 2 * np.conj(z))
    _, pullback = ag.vjp(lambda z: z**2, z)
    np.testing.assert_allclose(pullback(np.ones(2, complex))[0], 2 * z)  # not conjugated
    with pytest.raises(NotDifferentiableError, match="real"):
        ag.grad(lambda z: np.sum(z))(z)


def test_derivative_needs_an_elementwise_function():
    with pytest.raises(CotangentError, match="elementwise"):
        ag.derivative(np.sum)(X)


@given(st.lists(st.sampled_from(["sin", "exp", "mul", "add", "outer"]), min_size=1, max_size=6), st.integers(0, 9))
def test_random_programs(ops, seed):
    """Programs drawn at random, with fan-out, have the same derivative in both modes, and the numerical one."""

    def program(x):
        values = [x]
        for i, op in enumerate(ops):
            a, b = values[-1], values[(seed + i) % len(values)]
            values.append(
                {
                    "sin": lambda a=a: np.sin(a),
                    "exp": lambda a=a: np.exp(-a * a),
                    "mul": lambda a=a, b=b: a * b,
                    "add": lambda a=a, b=b: a + b / 2,
                    "outer": lambda a=a, b=b: np.einsum("i,j->i", a, b),
                }[op]()
            )
        return np.sum(values[-1] * values[seed % len(values)])

    ag.check_grads(program, np.array([0.3, -0.4]), order=2, rtol=1e-4, atol=1e-4)
