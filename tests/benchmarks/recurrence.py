"""Recurrent layers, forward and backward, beside PyTorch's: CPU time, one thread each, interleaved.

    python tests/benchmarks/recurrence.py                  # LSTM, GRU and RNN with the active kernels
    python tests/benchmarks/recurrence.py GRU --rounds 40

Each figure is the median over the rounds, and the ratio is the median of the rounds' ratios (below 1: ours is faster).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import torch

import allgrad as ag
from allgrad import kernels, nn

SIZES = {"small": (32, 16, 32, 64), "medium": (64, 32, 128, 128), "wide": (64, 32, 128, 256)}
"""Length, batch, inputs, width."""


def contestants(kind: str, length: int, batch: int, inputs: int, width: int):
    """Two functions that do the same: one step forward and backward."""
    ours = getattr(nn, kind)(inputs, width, rng=0)
    theirs = getattr(torch.nn, kind)(inputs, width, batch_first=True)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(batch, length, inputs)).astype(np.float32)
    g = np.random.default_rng(1).normal(size=(batch, length, width)).astype(np.float32)
    x_, g_ = torch.tensor(x, requires_grad=True), torch.tensor(g)

    def mine():
        tracked = ag.tensor(x, requires_grad=True)
        ours.zero_grad()
        ours(tracked)[0].backward(g)
        return tracked.grad

    def peer():
        x_.grad = None
        theirs.zero_grad()
        theirs(x_)[0].backward(g_)
        return x_.grad.numpy()

    np.testing.assert_allclose(mine(), peer(), rtol=2e-3, atol=2e-4)
    return mine, peer


def spent(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["LSTM", "GRU", "RNN"])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kernels.set_up_blas(1)
    print(f"{kernels.active().name} kernels, PyTorch {torch.__version__}")
    for kind in options.kinds:
        for size, shape in SIZES.items():
            mine, peer = contestants(kind, *shape)
            times = [(spent(mine), spent(peer)) for _ in range(options.rounds)]
            ours, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(a / b for a, b in times)
            print(f"{kind:5}{size:8}{ours:9.2f} ms{theirs:9.2f} ms  ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
