"""Whole training steps (forward, backward, optimizer) through the public API, interleaved with PyTorch, on as many threads.

    python tests/benchmarks/steps.py                                # all models, with the default kernels
    python tests/benchmarks/steps.py gpt --kernels numpy --rounds 9
    python tests/benchmarks/steps.py mlp gpt --compile --jax        # beside torch.compile and jax.jit
    python tests/benchmarks/steps.py gpt --bf16                     # beside products in bfloat16
    python tests/benchmarks/steps.py mlp gpt --threads 2

The script re-executes itself in an environment without OPENBLAS_*, MKL_* and OMP_* but for the number of threads, says which
kernel each library picked, checks that all contestants compute the same losses from the same weights, and prints medians and the
median of the ratios, round by round, to PyTorch with its fused Adam. Time is CPU time of the process, or with several threads
the time on the wall, which needs a machine that does nothing else. In a round each contestant runs for
about `SLOT` seconds, in an order that turns from round to round, so that a noisy neighbour hits all alike.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "ALLGRAD_BENCHMARK_CLEAN"
SLOT = 0.1
LONGEST = 10.0
"""Seconds for all rounds of one contestant. A slow one has fewer: emulated bfloat16 takes PyTorch seconds per step."""
REFERENCE = "torch fused"
TARGETS = {"mlp": 0.70, "tiny": 0.35, "gpt": 0.80, "cnn": 0.65, "lstm": 0.85, "vit": 0.85, "resnet": 0.85}
"""Ratios to `REFERENCE` that the numba kernels should reach."""


def clean_environment(count: int) -> None:
    """Start again without the variables that change what BLAS does, and with `count` threads for every library."""
    if os.environ.get(MARK):
        return
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "MKL_", "OMP_"))}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), str(count))
    eigen = "true" if count > 1 else "false"
    flags = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={count}"
    xla = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    os.execve(sys.executable, [sys.executable, *sys.argv], keep | threads | xla | {MARK: "1"})


def check_losses(steps: dict[str, Callable[[], float]]) -> None:
    """The sixth losses agree to 0.2 % of the first one: ResNet-18 has learnt its batch by then, and only rounding is left.

    Those with products in bfloat16 agree to 3 %.
    """
    losses = {name: [step() for _ in range(6)] for name, step in steps.items()}
    first, *_, last = losses[REFERENCE]
    apart = {name: abs(taken[-1] - last) / first for name, taken in losses.items()}
    if any(distance > (3e-2 if "bf16" in name else 2e-3) for name, distance in apart.items()):
        raise SystemExit(f"the contestants do not compute the same: {losses}")


def measure(
    steps: dict[str, Callable[[], float]], rounds: int, clock: Callable[[], float]
) -> dict[str, tuple[float, float]]:
    """Median seconds a step, and median ratio to the reference."""
    repeat = {}
    for name, step in steps.items():
        step()
        begin = clock()
        step()
        repeat[name] = max(1, int(SLOT / (clock() - begin)))
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    gc.disable()
    for _ in range(rounds):
        order = [*order[1:], order[0]]
        for name in order:
            step, count = steps[name], repeat[name]
            if sum(taken[name]) * count > LONGEST:
                continue
            begin = clock()
            for _ in range(count):
                step()
            taken[name].append((clock() - begin) / count)
        gc.collect()
    gc.enable()
    ratio = {n: statistics.median(a / b for a, b in zip(t, taken[REFERENCE], strict=False)) for n, t in taken.items()}
    return {name: (statistics.median(t), ratio[name]) for name, t in taken.items()}


def report(label: str, results: dict[str, tuple[float, float]]) -> None:
    print(label)
    for name, (seconds, ratio) in results.items():
        target = TARGETS[label]
        verdict = "" if name != "numba" else f"   target {target}: {'reached' if ratio <= target else 'missed'}"
        print(f"  {name:20s} {seconds * 1e3:9.3f} ms  {ratio:5.2f}{verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps against PyTorch.")
    parser.add_argument("which", nargs="*", default=list(TARGETS), help=", ".join(TARGETS))
    parser.add_argument("--kernels", nargs="+", choices=("numpy", "numba"), default=["numba"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which needs a C++ compiler")
    parser.add_argument(
        "--jax", action="store_true", help="also jax.jit, for the models that contestants.py has in JAX"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="also with products in bfloat16, ours and PyTorch's autocast"
    )
    options = parser.parse_args()
    clean_environment(options.threads)
    import torch
    from contestants import TASKS, contestants

    from allgrad import kernels

    torch.set_num_threads(options.threads)
    described = kernels.set_up_blas(threads=options.threads)
    print(f"NumPy: {described}; PyTorch {torch.__version__}: {torch.backends.cpu.get_cpu_capability()}")
    # With one thread each, what the neighbours take does not count.
    clock = time.process_time if options.threads == 1 else time.perf_counter
    for label in options.which:
        steps = contestants(
            TASKS[label](), options.kernels, compiled=options.compile, jax=options.jax, bf16=options.bf16
        )
        check_losses(steps)
        report(label, measure(steps, options.rounds, clock))


if __name__ == "__main__":
    main()
