"""A physics-informed network: the heat equation, solved without a single measured value.

    python examples/heat_equation.py             # about half a minute

u_t = alpha u_xx on 0 <= x <= 1, 0 <= t <= 1, with u = 0 at both ends and u = sin(pi x) at t = 0. A small network u(x, t) is
trained until it satisfies the equation at random points. The loss contains first and second derivatives of the network with
respect to its *input*, by forward mode, and is itself differentiated with respect to the weights, by reverse mode. The exact
solution, exp(-alpha pi^2 t) sin(pi x), is used only at the end, to measure the error.

(`configs/heat_equation.yaml` is the same problem as a job for many ranks.)
"""

import argparse

import numpy as np

import allgrad as ag
from allgrad import nn, optim

ALPHA = 0.1


def residual(u, x, t):
    """u_t - alpha u_xx at points x, t: (n,) float, which is zero where the equation holds."""
    ones = np.ones_like(x)
    u_t = ag.jvp(lambda t: u(x, t), (t,), (ones,))[1]
    u_xx = ag.derivative(ag.derivative(lambda x: u(x, t)))(x)
    return u_t - ALPHA * u_xx


def main(steps: int, tolerance: float) -> float:
    rng = np.random.default_rng(0)
    network = nn.models.MLP([2, 32, 32, 1], activation="tanh", rng=1, dtype=np.float64)
    schedule = optim.Scheduler(optim.Adam(network.parameters(), lr=1e-2), optim.Cosine(steps))

    def u(x, t):
        # The factor x (1 - x) makes u zero at both ends.
        return np.reshape(network(np.stack([x, t], axis=1)), (-1,)) * x * (1 - x) * 4

    for step in range(steps):
        x, t = rng.random((2, 128))
        inside = residual(u, x, t)
        start = u(x, np.zeros_like(x)) - np.sin(np.pi * x)
        loss = np.mean(inside**2) + 10 * np.mean(start**2)
        schedule.optimizer.zero_grad()
        loss.backward()
        schedule.set(step)
        schedule.optimizer.step()
        if step % 200 == 0:
            print(f"step {step:5d}  loss {loss.item():.2e}", flush=True)

    x, t = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41)))
    exact = np.exp(-ALPHA * np.pi**2 * t) * np.sin(np.pi * x)
    with ag.no_grad():
        error = float(np.linalg.norm(u(x, t).numpy() - exact) / np.linalg.norm(exact))
    print(f"relative error against the exact solution: {error:.2%} (tolerance: {tolerance:.0%})")
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tolerance", type=float, default=0.01)
    arguments = parser.parse_args()
    raise SystemExit(main(arguments.steps, arguments.tolerance) > arguments.tolerance)
