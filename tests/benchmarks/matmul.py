"""Matrix products of the numba kernels against OpenBLAS (NumPy) and MKL (PyTorch), over the shapes of the shipped models.

    python tests/benchmarks/matmul.py [--rounds 9] [--only gpt] [--threads 1]

Interleaved; of the rounds the lower quartile counts, because neighbours only ever add time. With one thread it is CPU time, with
more time on the clock, after a pause in which the threads of the others fall asleep, and some calls that wake its own. With two
threads, each has a core of its own (it must have nothing else to do). Each row: GFLOP/s of ours and of both libraries, and our
time over that of the better one. At the end the geometric mean, the worst shape, and the median share of the peak, which is the
micro-kernel's rate on one thread with operands that stay in the first-level cache, times the number of threads.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time

SHAPES = {
    "mlp": [(64, 784, 512), (64, 512, 512), (64, 512, 10)],
    "tiny": [(32, 64, 64), (32, 64, 10)],
    "gpt": [(2048, 128, 384), (2048, 128, 128), (2048, 128, 512), (2048, 512, 128), (2048, 128, 65)],
    "gpt, 2 samples": [(256, 128, 384), (256, 128, 512), (256, 512, 128), (256, 128, 65)],
    "attention": [(64, 32, 128), (64, 128, 32)],
    "lstm": [(32, 128, 512), (2048, 65, 512)],
    "cnn": [(147, 32, 64), (64, 12544, 128), (3920, 9, 32)],
    "large": [(1024, 1024, 1024)],
}  # fmt: skip
"""(rows, inner, columns) of the forward product y = x W; dx = g W' and dW = x' g follow."""

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def clean_environment(count: int) -> None:
    """Start again without the variables that hold BLAS back, and with that many threads."""
    if os.environ.get("ALLGRAD_BENCHMARK_CLEAN"):
        return
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "MKL_", "OMP_"))}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), str(count))
    os.execve(sys.executable, [sys.executable, *sys.argv], {**kept, **threads, "ALLGRAD_BENCHMARK_CLEAN": "1"})


def cases(rows: int, inner: int, columns: int):
    """The three products of a linear layer as (name, m, k, n, whether a and b are transposed views)."""
    yield "y = x W", rows, inner, columns, False, False
    yield "dx = g W'", rows, columns, inner, False, True
    yield "dW = x' g", inner, rows, columns, True, False


def matrix(rng, rows: int, columns: int, turned: bool):
    import numpy as np

    values = rng.standard_normal((columns, rows) if turned else (rows, columns), np.float32)
    return values.T if turned else values


def a_core_each() -> None:
    """Linux: this thread on one core, its helpers on another. On a busy machine the system may keep both on one."""
    for task in map(int, os.listdir("/proc/self/task")):
        os.sched_setaffinity(task, {CORES[0] if task == os.getpid() else CORES[-1]})


def quartiles(calls, flops: float, rounds: int, threads: int) -> list[float]:
    """Seconds per call, lower quartile, in turns."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    repeat = max(1, int((1e8 if threads == 1 else 3e8) / flops))
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    if threads == 2 and CORES:
        a_core_each()
    for turn in range(rounds):
        for i in [(turn + j) % len(calls) for j in range(len(calls))]:
            if threads > 1:
                time.sleep(0.05)
                for _ in range(1 + repeat // 3):
                    calls[i]()
            begin = clock()
            for _ in range(repeat):
                calls[i]()
            taken[i].append((clock() - begin) / repeat)
    return [statistics.quantiles(t, n=4)[0] for t in taken]


def peak() -> float:
    """GFLOP/s of one core, at best: tiles of a product whose operands stay in the first-level cache."""
    import numpy as np

    from allgrad.kernels.matmul.product import matmul

    panel = matmul.tile.sums // matmul.tile.rows * matmul.tile.lanes(np.dtype(np.float32))
    a, b = np.ones((4 * matmul.tile.rows, 250), np.float32), np.ones((250, panel), np.float32)
    stack = np.broadcast_to(a, (100, *a.shape))
    out = np.empty((100, len(a), panel), np.float32)
    taken = []
    for _ in range(200):
        begin = time.thread_time()
        matmul(stack, b, out=out)
        taken.append(time.thread_time() - begin)
    return 2e-9 * stack.size * panel / min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="only models whose name holds this word")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    clean_environment(options.threads)
    import numpy as np
    import torch

    from allgrad import kernels
    from allgrad.kernels.matmul.product import matmul

    torch.set_num_threads(options.threads)
    rng, logs, worst = np.random.default_rng(0), [], (0.0, "")
    print(
        kernels.set_up_blas(options.threads),
        "torch",
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        matmul.tile.name,
    )
    reached = []
    for model, shapes in SHAPES.items():
        if options.only not in model:
            continue
        for name, m, k, n, a_turned, b_turned in [case for shape in shapes for case in cases(*shape)]:
            a, b = matrix(rng, m, k, a_turned), matrix(rng, k, n, b_turned)
            ours, theirs, ta, tb = (
                np.empty((m, n), np.float32),
                np.empty((m, n), np.float32),
                *map(torch.from_numpy, (a, b)),
            )
            tc = torch.empty(m, n)
            calls = [
                lambda a=a, b=b, c=ours: matmul(a, b, out=c),
                lambda a=a, b=b, c=theirs: np.matmul(a, b, out=c),
                lambda a=ta, b=tb, c=tc: torch.mm(a, b, out=c),
            ]
            seconds = quartiles(calls, 2.0 * m * k * n, options.rounds, options.threads)
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * math.sqrt(k))
            rates = [2e-9 * m * k * n / s for s in seconds]
            ratio = seconds[0] / min(seconds[1:])
            logs.append(math.log(ratio))
            worst = max(worst, (ratio, f"{model} {name} {m}x{k}x{n}"))
            reached.append(rates[0])
            print(
                f"{model:16s}{name:11s}{m:6d}{k:6d}{n:6d}  ours {rates[0]:6.1f}  OpenBLAS {rates[1]:6.1f}  "
                f"torch {rates[2]:6.1f} GFLOP/s  {ratio:5.2f}",
                flush=True,
            )
    kernels.set_up_blas(1)
    most = peak() * options.threads
    print(f"geometric mean {math.exp(statistics.fmean(logs)):.3f}, worst {worst[0]:.2f} ({worst[1]})")
    print(
        f"peak {most:.0f} GFLOP/s; median share {statistics.median(reached) / most:.2f}, best {max(reached) / most:.2f}"
    )


if __name__ == "__main__":
    main()
