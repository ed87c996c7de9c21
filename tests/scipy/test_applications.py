"""Small applications, checked against PyTorch and HIPS autograd: a Gaussian process, an ODE of 200 steps, a heat inversion."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

import allgrad as ag
from allgrad.scipy import integrate, linalg, optimize, sparse, stats
from allgrad.scipy.spatial import distance

RNG = np.random.default_rng(0)


# A Gaussian process: the log marginal likelihood by the hyperparameters.

X = RNG.uniform(-2, 2, (30, 2))
Y = np.sin(X[:, 0]) * X[:, 1]


def log_likelihood(log_parameters):
    """Rasmussen and Williams, Gaussian Processes for Machine Learning, equation 2.30, with a squared exponential kernel."""
    length, amplitude, noise = np.exp(log_parameters)
    kernel = amplitude**2 * np.exp(-distance.cdist(X, X, "sqeuclidean") / (2 * length**2)) + noise**2 * np.eye(30)
    factor = linalg.cho_factor(kernel, lower=True)
    fit = Y @ linalg.cho_solve(factor, Y)
    return -fit / 2 - np.sum(np.log(np.diagonal(factor[0]))) - 15 * np.log(2 * np.pi)


START = np.log([1.0, 1.0, 0.1])


def test_a_gaussian_process_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here")
    p = torch.tensor(START, requires_grad=True)
    length, amplitude, noise = torch.exp(p)
    x, y = torch.tensor(X), torch.tensor(Y)
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    kernel = amplitude**2 * torch.exp(-squares / (2 * length**2)) + noise**2 * torch.eye(30, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(30, dtype=torch.float64), kernel)
    theirs = normal.log_prob(y)
    theirs.backward()
    ours, gradient = ag.value_and_grad(log_likelihood)(START)
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-10)
    np.testing.assert_allclose(gradient, p.grad.numpy(), rtol=1e-8)


def test_a_gaussian_process_is_the_multivariate_normal():
    def with_stats(log_parameters):
        length, amplitude, noise = np.exp(log_parameters)
        kernel = amplitude**2 * np.exp(-distance.cdist(X, X, "sqeuclidean") / (2 * length**2)) + noise**2 * np.eye(30)
        return stats.multivariate_normal.logpdf(Y, np.zeros(30), kernel)

    np.testing.assert_allclose(ag.grad(with_stats)(START), ag.grad(log_likelihood)(START), rtol=1e-8)
    ag.check_grads(log_likelihood, START, order=2, rtol=1e-4)


def test_the_best_hyperparameters_by_the_data():
    """The optimum of the likelihood moves with the observations: a derivative through `minimize`."""
    x = X[:10]

    def best_noise(scale):
        def loss(p):
            kernel = np.exp(-distance.cdist(x, x, "sqeuclidean") / 2) + np.exp(2 * p[0]) * np.eye(10)
            y = scale * Y[:10]
            return y @ linalg.solve(kernel, y, assume_a="pos") + np.linalg.slogdet(kernel)[1]

        return optimize.minimize(loss, np.array([0.0])).x[0]

    h = 1e-3
    numerical = (best_noise(ag.tensor(2.0 + h)) - best_noise(ag.tensor(2.0 - h))) / (2 * h)
    np.testing.assert_allclose(ag.grad(best_noise)(2.0), numerical, rtol=1e-4)


# Lotka and Volterra's equations: 200 steps of a fixed size, by the rates and the initial populations.


def rates(y, p):
    prey, predator = y[0], y[1]
    return [p[0] * prey - p[1] * prey * predator, p[2] * prey * predator - p[3] * predator]


PARAMETERS, POPULATIONS = np.array([1.0, 0.4, 0.1, 0.4]), np.array([8.0, 5.0])


def final_prey(p, y0):
    solution = integrate.solve_ivp(
        lambda t, y, p: rates(y, p), (0.0, 10.0), y0, args=(p,), max_step=0.05, rtol=1e-3, atol=1e-3
    )
    assert 200 <= len(solution.t) - 1 <= 203
    return solution.y[0, -1]


def test_lotka_and_volterra_against_autograd():
    npa = pytest.importorskip("autograd.numpy", reason="HIPS autograd is the reference here")
    from autograd import grad
    from autograd.builtins import tuple
    from autograd.scipy.integrate import odeint

    def theirs(p, y0):
        def fun(y, t, p):
            return npa.array(rates(y, p))

        return odeint(fun, y0, npa.array([0.0, 10.0]), tuple((p,)), rtol=1e-10, atol=1e-10)[-1, 0]

    for argnum in (0, 1):
        ours = ag.grad(final_prey, argnum)(PARAMETERS, POPULATIONS)
        np.testing.assert_allclose(ours, grad(theirs, argnum)(PARAMETERS, POPULATIONS), rtol=1e-5)


# Heat inversion: the conductivity of a rod from its temperatures, implicit steps with a sparse matrix.

CELLS, STEPS = 12, 6
INITIAL = np.sin(np.pi * (np.arange(CELLS) + 0.5) / CELLS)


def heat(log_conductivity):
    """Implicit Euler steps of u_t = (k u_x)_x with insulated ends; k at the faces between the cells."""
    k = np.exp(log_conductivity)
    zero = np.zeros(1)
    diagonal = 1.0 + np.concatenate([zero, k]) + np.concatenate([k, zero])
    matrix = sparse.diags_array([diagonal, -k, -k], offsets=[0, 1, -1]).tocsc()
    u = INITIAL
    for _ in range(STEPS):
        u = sparse.linalg.spsolve(matrix, u)
    return u


def misfit(log_conductivity, measured):
    return np.sum((heat(log_conductivity) - measured) ** 2)


TRUTH = 0.3 * np.cos(np.arange(CELLS - 1.0))
MEASURED = heat(ag.tensor(TRUTH)).numpy()


def test_heat_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here")
    p = torch.zeros(CELLS - 1, dtype=torch.float64, requires_grad=True)
    k, zero = torch.exp(p), torch.zeros(1, dtype=torch.float64)
    matrix = torch.diag(1 + torch.cat([zero, k]) + torch.cat([k, zero])) - torch.diag(k, 1) - torch.diag(k, -1)
    u = torch.tensor(INITIAL)
    for _ in range(STEPS):
        u = torch.linalg.solve(matrix, u)
    ((u - torch.tensor(MEASURED)) ** 2).sum().backward()
    gradient = ag.grad(misfit)(np.zeros(CELLS - 1), MEASURED)
    np.testing.assert_allclose(gradient, p.grad.numpy(), rtol=1e-9, atol=1e-14)


def test_the_conductivity_is_found():
    found = optimize.minimize(
        misfit, np.zeros(CELLS - 1), (MEASURED,), "BFGS", jac=ag.grad(misfit), options={"gtol": 1e-7}
    )
    assert misfit(found.x, MEASURED) < 1e-6 * misfit(np.zeros(CELLS - 1), MEASURED)
