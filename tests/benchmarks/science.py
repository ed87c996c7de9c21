"""Gradients of three small problems of science: what one evaluation costs beside JAX, PyTorch, HIPS autograd and Advect.

    python tests/benchmarks/science.py [--rounds N]

* Lotka-Volterra: 200 Runge-Kutta steps of two scalars; the gradient by four rates. Almost all of it is the cost per operation.
* Gaussian process: the log marginal likelihood of 200 points; the gradient by length scale, amplitude and noise. Mostly LAPACK.
* Heat: 200 explicit steps of a rod of 100 points; the gradient by the initial temperatures and the conductivities.

Times are medians of CPU time of interleaved evaluations, in milliseconds; gradients are compared with those of allgrad first. JAX
is compiled (`jit`, the loops as `lax.scan`), and its compilation is not counted; PyTorch is eager. Peers that are not installed
are left out. Advect needs Python 3.12 or newer: run this file there, with Advect, NumPy and SciPy, to compare with it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np

import allgrad as ag
import allgrad.numpy as anp

STEPS = 200
RNG = np.random.default_rng(0)

RATES = np.array([1.1, 0.4, 0.1, 0.4])
POINTS = np.sort(RNG.uniform(0.0, 10.0, 200))
TARGETS = np.sin(POINTS) + 0.1 * RNG.standard_normal(200)
SQUARES = (POINTS[:, None] - POINTS) ** 2
KERNEL = np.array([1.0, 1.0, 0.1])
ROD = np.linspace(0.0, 1.0, 100)
OBSERVED = np.sin(np.pi * ROD) * 0.2
HEAT = np.stack([np.sin(np.pi * ROD), np.full(100, 0.3)])

Loop = Callable[[Callable[[Any], Any], Any], Any]


def python_loop(step: Callable[[Any], Any], state: Any) -> Any:
    for _ in range(STEPS):
        state = step(state)
    return state


def lotka_volterra(m: Any, loop: Loop, rates: Any) -> Any:
    a, b, c, d = (rates[i] for i in range(4))

    def slope(x: Any, y: Any) -> Any:
        return a * x - b * x * y, c * x * y - d * y

    def step(state: Any) -> Any:
        x, y = state
        h = 0.05
        kx1, ky1 = slope(x, y)
        kx2, ky2 = slope(x + h / 2 * kx1, y + h / 2 * ky1)
        kx3, ky3 = slope(x + h / 2 * kx2, y + h / 2 * ky2)
        kx4, ky4 = slope(x + h * kx3, y + h * ky3)
        return x + h / 6 * (kx1 + 2 * kx2 + 2 * kx3 + kx4), y + h / 6 * (ky1 + 2 * ky2 + 2 * ky3 + ky4)

    x, y = loop(step, (10.0 + 0.0 * a, 5.0 + 0.0 * a))
    return x * x + y


def gaussian_process(m: Any, loop: Loop, kernel: Any) -> Any:
    length, amplitude, noise = (kernel[i] for i in range(3))
    squares, targets, eye = (m.asarray(v) for v in (SQUARES, TARGETS, np.eye(len(POINTS))))
    covariance = amplitude**2 * m.exp(squares * (-0.5 / length**2)) + noise**2 * eye
    factor = m.linalg.cholesky(covariance)
    whitened = m.linalg.solve(factor, targets)
    return 0.5 * m.sum(whitened * whitened) + m.sum(m.log(m.diagonal(factor, 0, -1, -2)))


def heat(m: Any, loop: Loop, parameters: Any) -> Any:
    u, conductivity = parameters[0], parameters[1]
    observed = m.asarray(OBSERVED)
    between = (conductivity[1:] + conductivity[:-1]) / 2

    def step(u: Any) -> Any:
        flux = between * (u[1:] - u[:-1])
        return m.concatenate([u[:1], u[1:-1] + 0.5 * (flux[1:] - flux[:-1]), u[-1:]])

    misfit = loop(step, u) - observed
    return m.sum(misfit * misfit)


PROBLEMS: dict[str, tuple[Callable[..., Any], np.ndarray]] = {
    "Lotka-Volterra": (lotka_volterra, RATES),
    "Gaussian process": (gaussian_process, KERNEL),
    "heat": (heat, HEAT),
}


def with_allgrad(f: Callable[..., Any], x: np.ndarray) -> Callable[[], Any]:
    gradient = ag.grad(lambda v: f(anp, python_loop, v))
    return lambda: gradient(x)


def with_jax(f: Callable[..., Any], x: np.ndarray) -> Callable[[], Any]:
    import jax

    jax.config.update("jax_enable_x64", True)

    def scan(step: Callable[[Any], Any], state: Any) -> Any:
        return jax.lax.scan(lambda s, _: (step(s), None), state, None, length=STEPS)[0]

    gradient = jax.jit(jax.grad(lambda v: f(jax.numpy, scan, v)))
    given = jax.numpy.asarray(x)
    return lambda: gradient(given).block_until_ready()


def with_torch(f: Callable[..., Any], x: np.ndarray) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(1)

    def run() -> Any:
        v = torch.tensor(x, requires_grad=True)
        f(torch, python_loop, v).backward()
        return v.grad.numpy()

    return run


def with_autograd(f: Callable[..., Any], x: np.ndarray) -> Callable[[], Any]:
    import autograd
    import autograd.numpy

    gradient = autograd.grad(lambda v: f(autograd.numpy, python_loop, v))
    return lambda: gradient(x)


def with_advect(f: Callable[..., Any], x: np.ndarray) -> Callable[[], Any]:
    import advect

    gradient = advect.grad(lambda v: f(np, python_loop, v))
    return lambda: gradient(x)


PEERS = {"jax": with_jax, "torch": with_torch, "autograd": with_autograd, "advect": with_advect}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    peers = {"allgrad": with_allgrad} | {n: p for n, p in PEERS.items() if importlib.util.find_spec(n)}
    print(f"CPU time in ms, and relative to allgrad; Python {sys.version.split()[0]}, NumPy {np.__version__}")
    print(f"{'':18s}" + "".join(f"{peer:>18s}" for peer in peers))
    for name, (f, x) in PROBLEMS.items():
        runs = {peer: make(f, x) for peer, make in peers.items()}
        right = np.asarray(runs["allgrad"]())
        for peer, run in runs.items():
            np.testing.assert_allclose(np.asarray(run()), right, rtol=1e-6, atol=1e-9, err_msg=f"{peer}, {name}")
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        for _ in range(rounds):
            for peer, run in runs.items():
                start = time.process_time()
                run()
                times[peer].append((time.process_time() - start) * 1e3)
        medians = {peer: statistics.median(t) for peer, t in times.items()}
        cells = (f"{t:.2f} ({t / medians['allgrad']:.2f})" for t in medians.values())
        print(f"{name:18s}" + "".join(f"{cell:>18s}" for cell in cells))


if __name__ == "__main__":
    main()
