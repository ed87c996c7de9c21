"""L-BFGS against PyTorch's and SciPy's."""

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn, optim
from allgrad.comm import World
from allgrad.optim.wolfe import DECREASE, SLOPE, strong_wolfe
from allgrad.parallel import DataParallel
from allgrad.stateful import Stateful


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def minimize(x, function, steps=1, **options):
    optimizer = optim.LBFGS([x], **options)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = function(x)
        loss.backward()
        return loss

    losses = [optimizer.step(closure) for _ in range(steps)]
    return losses, calls


@pytest.mark.parametrize("options", [{}, {"history_size": 3}, {"history_size": 1}, {"max_iter": 1}, {"max_eval": 5}])
def test_without_a_line_search_the_iterates_are_pytorchs(rng, options):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    a = rng.normal(size=(12, 8))
    matrix, start = a.T @ a / 10 + np.eye(8), rng.normal(size=8)
    ours = ag.tensor(start, requires_grad=True)
    theirs, m = torch.tensor(start.copy(), requires_grad=True), torch.tensor(matrix)
    optimizer = torch.optim.LBFGS([theirs], lr=0.3, **options)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = theirs @ m @ theirs + torch.sum(torch.cos(theirs))
        loss.backward()
        return loss

    expected = [float(optimizer.step(closure).detach()) for _ in range(3)]
    losses, ours_calls = minimize(
        ours, lambda x: x @ matrix @ x + np.sum(np.cos(x)), 3, lr=0.3, line_search_fn=None, **options
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    np.testing.assert_allclose(ours.value, theirs.detach().numpy(), rtol=1e-8, atol=1e-10)
    assert ours_calls == calls


def test_with_a_line_search_it_ends_where_scipys_does(rng):
    optimize = pytest.importorskip("scipy.optimize", reason="the comparison is with SciPy")
    start = rng.normal(size=10)
    x = ag.tensor(start, requires_grad=True)
    _, calls = minimize(x, rosenbrock, max_iter=500, max_eval=2000, tolerance_change=0.0, tolerance_grad=1e-8)
    theirs = optimize.minimize(
        lambda x: float(rosenbrock(x)),
        start,
        jac=ag.grad(rosenbrock),
        method="L-BFGS-B",
        options={"ftol": 0, "gtol": 1e-8},
    )
    assert theirs.success
    np.testing.assert_allclose(x.value, theirs.x, atol=1e-6)
    assert calls < 2 * theirs.nfev


def test_a_network_is_fitted_as_well_as_by_pytorch(rng):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    points = rng.uniform(-1, 1, size=(60, 2))
    values = np.sin(3 * points[:, :1]) * points[:, 1:]
    model = nn.models.MLP([2, 12, 1], activation="tanh", rng=0, dtype=np.float64)
    other = torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.Tanh(), torch.nn.Linear(12, 1)).double()
    other.load_state_dict({k.removeprefix("layers."): torch.tensor(v) for k, v in model.state_dict().items()})
    optimizer = optim.LBFGS(model, max_iter=200)
    theirs = torch.optim.LBFGS(other.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    x, y = torch.tensor(points), torch.tensor(values)

    def closure():
        optimizer.zero_grad()
        loss = nn.MSELoss()(model(points), values)
        loss.backward()
        return loss

    def their_closure():
        theirs.zero_grad()
        loss = torch.mean((other(x) - y) ** 2)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert first == pytest.approx(float(theirs.step(their_closure).detach()), rel=1e-10)
    assert closure().item() < 2 * float(their_closure().detach()) < first / 100


def test_float32_and_parameters_without_a_gradient(rng):
    used = ag.tensor(rng.normal(size=3).astype(np.float32), requires_grad=True)
    unused = ag.tensor(np.ones(2, np.float32), requires_grad=True)
    optimizer = optim.LBFGS([used, unused])

    def closure():
        optimizer.zero_grad()
        loss = np.sum((used - 2) ** 2)
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(used.value, 2, rtol=1e-6)
    assert (used.dtype, unused.tolist()) == (np.float32, [1.0, 1.0])


def test_resumed_it_goes_on_with_the_same_bits(rng):
    start = rng.normal(size=6)

    def make(values):
        x = ag.tensor(values, requires_grad=True)
        optimizer = optim.LBFGS([x], max_iter=4)

        def closure():
            optimizer.zero_grad()
            loss = rosenbrock(x)
            loss.backward()
            return loss

        return x, optimizer, closure

    x, optimizer, closure = make(start)
    optimizer.step(closure)
    state, values = optimizer.state_dict(), x.value.copy()
    optimizer.step(closure)
    again, resumed, closure = make(values)
    resumed.load_state_dict(state)
    resumed.step(closure)
    assert again.value.tobytes() == x.value.tobytes()
    assert isinstance(resumed, Stateful)
    with pytest.raises(optim.StateError, match="expected 6 entries"):
        resumed.load_state_dict({**state, "s": np.zeros((1, 5))})


def test_it_works_with_data_parallel_gradients(rng):
    points = rng.normal(size=(24, 3))
    values = points @ np.array([[1.0], [2.0], [-1.0]]) + 0.5
    model = nn.Linear(3, 1, rng=0, dtype=np.float64)
    replica = DataParallel(model, World(), virtual_workers=4)
    optimizer = optim.LBFGS(model.parameters())

    def closure():
        batch = replica.split({"x": points, "y": values})
        return replica.step(lambda part: nn.MSELoss()(model(part["x"]), part["y"]), batch, 0).loss

    optimizer.step(closure)
    np.testing.assert_allclose(model.weight.value[:, 0], [1, 2, -1], atol=1e-5)
    np.testing.assert_allclose(model.bias.value, [0.5], atol=1e-5)


def test_refusals(leaves):
    ours = leaves()
    with pytest.raises(optim.SettingError, match="all parameters must be in one group"):
        optim.LBFGS([{"params": [ours["w"]]}, {"params": [ours["b"]]}])
    with pytest.raises(TypeError, match="needs a function that empties the gradients"):
        optim.LBFGS([ours["w"]]).step({"b"})


@pytest.mark.parametrize("length", [1e-4, 0.03, 1.0, 50.0])
@pytest.mark.parametrize(
    "function",
    [
        lambda t: -t / (t * t + 2),  # Moré & Thuente 1994, equation 5.1
        lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,  # 5.2
        lambda t: np.exp(t) - 5 * t,
        lambda t: np.log(1 + t * t) - t * 0.1,
    ],
)
def test_the_line_search_finds_a_point_that_satisfies_both_conditions(function, length):
    def evaluate(t):
        with np.errstate(over="ignore"):
            return float(function(t)), np.array([float(ag.grad(function)(t))])

    loss, gradient = evaluate(0.0)
    direction = np.array([1.0])
    found = strong_wolfe(evaluate, direction, loss, gradient, length)
    slope = float(gradient[0])
    assert slope < 0
    assert found.loss <= loss + DECREASE * found.length * slope
    assert abs(found.gradient[0]) <= -SLOPE * slope
    assert found.evaluations <= 25


def test_the_line_search_steps_back_from_what_is_not_finite():
    def evaluate(t):
        return (float("nan") if t > 1 else (t - 0.5) ** 2), np.array([2 * (t - 0.5)])

    found = strong_wolfe(evaluate, np.array([1.0]), 0.25, np.array([-1.0]), 40.0)
    assert found.length == pytest.approx(0.5, abs=0.3)
