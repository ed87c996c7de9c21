"""Whole training steps (forward, backward, optimizer) through the public API, interleaved with PyTorch eager, one thread each.

    python tests/benchmarks/steps.py                                # all models, both kernel sets that are installed
    python tests/benchmarks/steps.py gpt --kernels numpy --rounds 9
    ALLGRAD_LAB=FOLDER python tests/benchmarks/steps.py             # with the hand-written floor that lies in FOLDER

The script re-executes itself in an environment without OPENBLAS_*, MKL_* and OMP_* but for one thread, says which kernel each
library picked, checks that all contestants compute the same losses from the same weights, and prints medians and the median of
the ratios, round by round, to PyTorch with its fused Adam. Time is CPU time of the process. In a round each contestant runs for
about `SLOT` seconds, in an order that turns from round to round, so that a noisy neighbour hits all alike.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import statistics
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "ALLGRAD_BENCHMARK_CLEAN"
SLOT = 0.1
REFERENCE = "torch fused"
MODELS = ["mlp", "tiny", "gpt", "cnn", "lstm"]
TARGETS = {
    ("mlp", "numpy"): 0.75, ("tiny", "numpy"): 0.5, ("gpt", "numpy"): 0.65, ("cnn", "numpy"): 0.95, ("lstm", "numpy"): 1.0,
    ("mlp", "numba"): 0.55, ("tiny", "numba"): 0.4, ("gpt", "numba"): 0.58, ("cnn", "numba"): 0.9, ("lstm", "numba"): 1.0,
}  # fmt: skip


def clean_environment() -> None:
    """Start again without the variables that change what BLAS does."""
    if os.environ.get(MARK):
        return
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "MKL_", "OMP_"))}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    os.execve(sys.executable, [sys.executable, *sys.argv], keep | threads | {MARK: "1"})


def ours(model: Any, loss: Any, x: Any, y: Any, optimizer: Any) -> Callable[[], float]:
    def step() -> float:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def theirs(model: Any, run: Callable[[Any], Any], optimizer: Any) -> Callable[[], float]:
    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = run(model)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def with_kernels(name: str, step: Callable[[], float]) -> Callable[[], float]:
    from allgrad import kernels

    def chosen() -> float:
        kernels.use(name)
        return step()

    return chosen


def mlp(sizes: list[int], batch: int, sets: list[str], lab: Any) -> dict[str, Callable[[], float]]:
    import numpy as np
    import torch
    import torch.nn.functional as functional

    from allgrad import nn, optim

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, sizes[0]), np.float32), rng.integers(0, sizes[-1], batch)
    xt, yt = torch.from_numpy(x), torch.from_numpy(y)
    start = nn.models.MLP(sizes, rng=0).state_dict()
    steps: dict[str, Callable[[], float]] = {}
    for label, options in (("torch", {}), (REFERENCE, {"fused": True})):
        layers: list[Any] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        model.load_state_dict({k.removeprefix("layers."): torch.from_numpy(v.copy()) for k, v in start.items()})
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, **options)
        steps[label] = theirs(model, lambda m: functional.cross_entropy(m(xt), yt), adam)
    for name in sets:
        net = nn.models.MLP(sizes, rng=0)
        adam = optim.Adam(net.named_parameters(), lr=1e-3)
        steps[name] = with_kernels(name, ours(net, nn.CrossEntropyLoss(), x, y, adam))
    if lab is not None:
        floor = lab.MLP(sizes, batch)
        for i, parameter in enumerate(nn.models.MLP(sizes, rng=0).parameters()):
            floor.A.P[i][...] = parameter.value
        steps["floor"] = lambda: floor.step(x, y)
    return steps


def torch_gpt(vocabulary: int, context: int, layers: int, width: int, heads: int) -> Any:
    import torch
    import torch.nn.functional as functional

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
            self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
            self.linear1, self.linear2 = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, heads, -1).permute(2, 0, 3, 1, 4)
            a = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(a.transpose(1, 2).reshape(b, t, -1))
            return x + self.linear2(functional.gelu(self.linear1(self.norm2(x))))

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = torch.nn.Embedding(vocabulary, width)
            self.positions = torch.nn.Embedding(context, width)
            self.blocks = torch.nn.ModuleList(Block() for _ in range(layers))
            self.norm = torch.nn.LayerNorm(width)
            self.head = torch.nn.Linear(width, vocabulary, bias=False)

        def forward(self, i: Any) -> Any:
            x = self.tokens(i) + self.positions.weight[: i.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return Model()


NAMES = (("self_attn.in_proj_", "qkv."), ("self_attn.out_proj", "out"))
"""A block's names in PyTorch's encoder layer and in the leaner block above."""


def gpt(sets: list[str], lab: Any) -> dict[str, Callable[[], float]]:
    import numpy as np
    import torch
    import torch.nn.functional as functional

    from allgrad import nn, optim

    def build() -> Any:
        return nn.models.GPT(65, context=128, layers=4, width=128, heads=4, tied=False, rng=0)

    rng = np.random.default_rng(0)
    tokens, goal = rng.integers(0, 65, (16, 128)), rng.integers(0, 65, (16, 128))
    start = build().state_dict()
    for a, b in NAMES:
        start = {k.replace(a, b): v for k, v in start.items()}
    steps: dict[str, Callable[[], float]] = {}
    for label, options in (("torch", {}), (REFERENCE, {"fused": True})):
        model = torch_gpt(65, 128, 4, 128, 4)
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in start.items()})
        adam = torch.optim.AdamW(model.parameters(), lr=1e-3, **options)
        i, j = torch.from_numpy(tokens), torch.from_numpy(goal).reshape(-1)
        steps[label] = theirs(model, lambda m, i=i, j=j: functional.cross_entropy(m(i).view(-1, 65), j), adam)
    for name in sets:
        net = build()
        adam = optim.AdamW(net.named_parameters(), lr=1e-3, weight_decay=0.01)
        steps[name] = with_kernels(name, ours(net, nn.CrossEntropyLoss(), tokens, goal, adam))
    if lab is not None:
        steps["floor"] = gpt_floor(lab, start, tokens.reshape(-1), goal.reshape(-1))
    return steps


def gpt_floor(lab: Any, start: dict[str, Any], tokens: Any, goal: Any) -> Callable[[], float]:
    floor = lab.GPT()
    order = ["tokens.weight", "positions.weight"]
    for i in range(4):
        for layer in ("norm1", "qkv", "out", "norm2", "linear1", "linear2"):
            order += [f"blocks.{i}.{layer}.weight", f"blocks.{i}.{layer}.bias"]
    order += ["norm.weight", "norm.bias", "head.weight"]
    for place, name in zip(floor.A.P, order, strict=True):
        turned = name.endswith("weight") and start[name].ndim == 2 and not name.startswith(("tokens", "positions"))
        place[...] = start[name].T if turned else start[name]
    return lambda: floor.step(tokens, goal)


def torch_lstm(vocabulary: int, width: int, layers: int) -> Any:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = torch.nn.Embedding(vocabulary, width)
            self.lstm = torch.nn.LSTM(width, width, layers, batch_first=True)
            self.head = torch.nn.Linear(width, vocabulary)

        def forward(self, i: Any) -> Any:
            return self.head(self.lstm(self.tokens(i))[0])

    return Model()


def lstm(sets: list[str]) -> dict[str, Callable[[], float]]:
    import numpy as np
    import torch
    import torch.nn.functional as functional

    from allgrad import nn, optim

    def build() -> Any:
        return nn.models.LSTMLanguageModel(65, width=128, layers=2, rng=0)

    rng = np.random.default_rng(0)
    tokens, goal = rng.integers(0, 65, (32, 64)), rng.integers(0, 65, (32, 64))
    start = build().state_dict()
    i, j = torch.from_numpy(tokens), torch.from_numpy(goal).reshape(-1)
    steps: dict[str, Callable[[], float]] = {}
    for label, options in (("torch", {}), (REFERENCE, {"fused": True})):
        model = torch_lstm(65, 128, 2)
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in start.items()})
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, **options)
        steps[label] = theirs(model, lambda m: functional.cross_entropy(m(i).view(-1, 65), j), adam)
    for name in sets:
        net = build()
        adam = optim.Adam(net.named_parameters(), lr=1e-3)
        steps[name] = with_kernels(name, ours(net, nn.CrossEntropyLoss(), tokens, goal, adam))
    return steps


def cnn(sets: list[str], lab: Any) -> dict[str, Callable[[], float]]:
    import numpy as np
    import torch
    import torch.nn.functional as functional

    from allgrad import nn, optim

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 28, 28, 1), np.float32), rng.integers(0, 10, 64)
    yt = torch.from_numpy(y)

    def build() -> Any:
        return nn.models.CNN(rng=0)

    start = build().state_dict()
    steps: dict[str, Callable[[], float]] = {}
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    for label, layout, options in (
        ("torch", "contiguous", {}),
        ("torch channels last", "channels last", {}),
        (REFERENCE, "channels last", {"fused": True}),
    ):
        t = torch.nn
        model = t.Sequential(
            t.Conv2d(1, 32, 3, padding=1), t.ReLU(), t.Conv2d(32, 64, 3, padding=1), t.ReLU(), t.MaxPool2d(2),
            t.Flatten(), t.Linear(12544, 128), t.ReLU(), t.Linear(128, 10),
        ).to(memory_format=layouts[layout])  # fmt: skip
        model.load_state_dict(
            {k: torch.from_numpy(v.copy()) for k, v in zip(model.state_dict(), start.values(), strict=True)}
        )
        xt = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).contiguous(memory_format=layouts[layout])
        adam = torch.optim.Adam(model.parameters(), lr=1e-3, **options)
        steps[label] = theirs(model, lambda m, xt=xt: functional.cross_entropy(m(xt), yt), adam)
    for name in sets:
        net = build()
        adam = optim.Adam(net.named_parameters(), lr=1e-3)
        steps[name] = with_kernels(name, ours(net, nn.CrossEntropyLoss(), x, y, adam))
    if lab is not None:
        floor = lab.CNN()
        for place, parameter in zip(floor.A.P, build().parameters(), strict=True):
            place[...] = parameter.value.reshape(place.shape)
        steps["floor"] = lambda: floor.step(x[..., 0], y)
    return steps


def check_losses(steps: dict[str, Callable[[], float]]) -> None:
    losses = {name: [step() for _ in range(6)][-1] for name, step in steps.items()}
    worst = max(abs(loss / losses[REFERENCE] - 1) for loss in losses.values())
    if worst > 2e-3:
        raise SystemExit(f"the contestants do not compute the same: {losses}")


def measure(steps: dict[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds a step, and median ratio to the reference."""
    clock = time.process_time  # each contestant has one thread: what the neighbours take does not count
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
            begin = clock()
            for _ in range(count):
                step()
            taken[name].append((clock() - begin) / count)
        gc.collect()
    gc.enable()
    ratio = {n: statistics.median(a / b for a, b in zip(t, taken[REFERENCE], strict=True)) for n, t in taken.items()}
    return {name: (statistics.median(t), ratio[name]) for name, t in taken.items()}


def report(label: str, results: dict[str, tuple[float, float]]) -> None:
    print(label)
    for name, (seconds, ratio) in results.items():
        target = TARGETS.get((label, name))
        verdict = "" if target is None else f"   target {target}: {'reached' if ratio <= target else 'missed'}"
        if name in ("numpy", "numba") and "floor" in results:
            verdict += f"   {seconds / results['floor'][0]:.2f} of the floor"
        print(f"  {name:20s} {seconds * 1e3:9.3f} ms  {ratio:5.2f}{verdict}", flush=True)


def load_lab() -> Any:
    """The hand-written steps, if ALLGRAD_LAB names their folder."""
    folder = os.environ.get("ALLGRAD_LAB")
    if not folder:
        return None
    spec = importlib.util.spec_from_file_location("steps_np", os.path.join(folder, "steps_np.py"))
    assert spec is not None
    assert spec.loader is not None
    lab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lab)
    return lab


def main() -> None:
    clean_environment()
    parser = argparse.ArgumentParser(description="Training steps against PyTorch.")
    parser.add_argument("which", nargs="*", default=MODELS, help=", ".join(MODELS))
    parser.add_argument("--kernels", choices=["numpy", "numba"], help="one set only")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    import torch

    from allgrad import kernels

    torch.set_num_threads(1)
    described = kernels.set_up_blas(threads=1)
    print(f"NumPy: {described}; PyTorch {torch.__version__}: {torch.backends.cpu.get_cpu_capability()}")
    sets = (
        [options.kernels] if options.kernels else ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]
    )
    lab = load_lab()
    builders = {
        "mlp": lambda: mlp([784, 512, 512, 10], 64, sets, lab),
        "tiny": lambda: mlp([64, 64, 10], 32, sets, lab),
        "gpt": lambda: gpt(sets, lab),
        "cnn": lambda: cnn(sets, lab),
        "lstm": lambda: lstm(sets),
    }
    for label in options.which:
        steps = builders[label]()
        check_losses(steps)
        report(label, measure(steps, options.rounds))


if __name__ == "__main__":
    main()
