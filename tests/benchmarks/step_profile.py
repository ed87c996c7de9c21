"""Where a training step spends its time: every kernel by shape, in milliseconds per step, beside PyTorch's own profile.

    python tests/benchmarks/step_profile.py gpt
    python tests/benchmarks/step_profile.py lstm vit --rounds 20

What is left between the sum of the kernels and the whole step is NumPy's elementwise operations (residual additions, slopes of
activations) and Python. Times are on the wall, medians, on one thread; see `steps.py` for ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from steps import REFERENCE, TARGETS, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 25


def timed(kernels: Any, taken: dict[str, list[float]]) -> Callable[[bool], None]:
    """Makes the methods of a set of kernels note their times in `taken`, while that is switched on."""
    state = {"on": False, "inside": False}

    def wrap(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            if not state["on"] or state["inside"]:
                return method(*arguments, **keywords)
            state["inside"], start = True, time.perf_counter()
            result = method(*arguments, **keywords)
            taken[f"{name} {' @ '.join(map(described, arguments[:2]))}"].append(time.perf_counter() - start)
            state["inside"] = False
            return result

        return run

    for name in dir(type(kernels)):
        if not name.startswith("_") and callable(getattr(kernels, name)):
            setattr(kernels, name, wrap(name, getattr(kernels, name)))
    return lambda on: state.update(on=on)


def described(x: Any) -> str:
    if getattr(x, "shape", None) is None:
        return "-"
    return "x".join(map(str, x.shape)) + ("" if x.flags.c_contiguous else "'")


def show(title: str, rows: list[tuple[float, float, str]]) -> None:
    """Milliseconds per step, calls per step, and a name."""
    print(f"{title}: {sum(row[0] for row in rows):.2f} ms")
    for milliseconds, count, name in sorted(rows, reverse=True)[:LINES]:
        print(f"  {milliseconds:8.3f} ms {count:4.0f} x  {name[:110]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Profile of training steps.")
    parser.add_argument("which", nargs="+", choices=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    clean_environment(1)
    import torch
    from contestants import TASKS, contestants
    from torch.profiler import ProfilerActivity, profile

    from allgrad import kernels

    torch.set_num_threads(1)
    kernels.set_up_blas(threads=1)
    for label in options.which:
        taken: dict[str, list[float]] = defaultdict(list)
        steps = contestants(TASKS[label](), ["numba"], compiled=False, jax=False)
        ours, theirs = steps["numba"], steps[REFERENCE]
        for _ in range(3):
            ours(), theirs()
        switch, whole = timed(kernels.active(), taken), []
        switch(True)
        for _ in range(options.rounds):
            start = time.perf_counter()
            ours()
            whole.append(time.perf_counter() - start)
        switch(False)
        print(f"{label}: {1e3 * statistics.median(whole):.2f} ms")
        counts = {name: len(times) / options.rounds for name, times in taken.items()}
        show("kernels", [(1e3 * statistics.median(t) * counts[n], counts[n], n) for n, t in taken.items()])
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
            for _ in range(options.rounds):
                theirs()
        events = found.key_averages(group_by_input_shape=True)
        per_step = 1e3 * options.rounds
        show(
            "PyTorch's operations",
            [(e.self_cpu_time_total / per_step, e.count / options.rounds, f"{e.key} {e.input_shapes}") for e in events],
        )


if __name__ == "__main__":
    main()
