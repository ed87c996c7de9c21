"""Peak memory of training steps (forward, backward, optimizer) through the public API, beside PyTorch eager with fused Adam.

    python tests/benchmarks/memory.py                        # all models; both kernel sets that are installed, and PyTorch
    python tests/benchmarks/memory.py gpt lstm --peers numpy torch

Each figure comes from a process of its own, with one thread: the highest resident memory during some steps that follow some
others (VmHWM, reset through /proc/self/clear_refs), less the resident memory before the model was made. So it holds parameters,
gradients, optimizer state, what the tape keeps, temporaries, and what the allocator keeps of freed memory. One step of a small
model of the same kind runs before that, so that code which is loaded at first use counts for none. allgrad runs with the
allocator settings that its command makes (`kernels.set_up_blas`), PyTorch with the C library's own.

Linux only.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP, STEPS = 4, 4
TORCH = "torch"


class Sizes:
    """What is measured, and the small one that runs before. The last numbers are those of the batch."""

    mlp = (([784, 512, 512, 10], 64), ([8, 8, 8, 4], 2))
    gpt = ((65, 128, 4, 128, 4, 16), (8, 8, 2, 16, 2, 2))
    cnn = ((28, 64), (8, 2))
    lstm = ((65, 128, 2, 32, 64), (8, 16, 2, 2, 4))
    resnet = (((64, 128, 256, 512), 32, 32), ((4, 4, 4, 4), 16, 2))


def resident(field: str) -> float:
    """VmRSS or VmHWM of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("memory.py: /proc/self/status tells no resident memory; this needs Linux.")


def peak_above_level(make: Callable[[bool], Callable[[], float]]) -> tuple[float, float]:
    """MB above the level before the model was made, and of the whole process."""
    small = make(True)
    small()
    del small
    gc.collect()
    level = resident("VmRSS")
    step = make(False)
    gc.disable()  # nothing may depend on it
    for _ in range(WARM_UP):
        step()
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(STEPS):
        step()
    return resident("VmHWM") - level, resident("VmHWM")


def batch(name: str, sizes: Any) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    if name == "mlp":
        widths, samples = sizes
        return rng.standard_normal((samples, widths[0]), np.float32), rng.integers(0, widths[-1], samples)
    if name == "gpt":
        vocabulary, context, *_, samples = sizes
        return rng.integers(0, vocabulary, (samples, context)), rng.integers(0, vocabulary, (samples, context))
    if name == "lstm":
        vocabulary, _, _, samples, length = sizes
        return rng.integers(0, vocabulary, (samples, length)), rng.integers(0, vocabulary, (samples, length))
    side, samples = sizes[-2:]
    channels = 1 if name == "cnn" else 3
    return rng.standard_normal((samples, side, side, channels), np.float32), rng.integers(0, 10, samples)


def ours(name: str, sizes: Any) -> Callable[[], float]:
    from allgrad import nn, optim

    models = nn.models
    x, y = batch(name, sizes)
    if name == "mlp":
        model: Any = models.MLP(sizes[0])
    elif name == "gpt":
        vocabulary, context, layers, width, heads, _ = sizes
        model = models.GPT(vocabulary, context=context, layers=layers, width=width, heads=heads, tied=False)
    elif name == "cnn":
        model = models.CNN((sizes[0], sizes[0], 1))
    elif name == "lstm":
        model = models.LSTMLanguageModel(sizes[0], width=sizes[1], layers=sizes[2])
    else:
        model = models.ResNet18(10, widths=sizes[0])
    loss, optimizer = nn.CrossEntropyLoss(), optim.Adam(model.named_parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def theirs(name: str, sizes: Any) -> Callable[[], float]:
    import numpy as np
    import torch
    import torch.nn.functional as functional

    t = torch.nn
    x, y = batch(name, sizes)
    if name == "mlp":
        layers: list[Any] = []
        for fan_in, fan_out in pairwise(sizes[0]):
            layers += [t.Linear(fan_in, fan_out), t.ReLU()]
        model: Any = t.Sequential(*layers[:-1])
    elif name == "gpt":
        model = contestants().PeerGPT(*sizes[:5])
    elif name == "cnn":
        flat = (sizes[0] // 2) ** 2 * 64
        model = t.Sequential(
            t.Conv2d(1, 32, 3, padding=1), t.ReLU(), t.Conv2d(32, 64, 3, padding=1), t.ReLU(), t.MaxPool2d(2),
            t.Flatten(), t.Linear(flat, 128), t.ReLU(), t.Linear(128, 10),
        )  # fmt: skip
    elif name == "lstm":
        model = contestants().PeerLSTM(*sizes[:3])
    else:
        model = torch_resnet(sizes[0])
    i, j = torch.from_numpy(x), torch.from_numpy(y)
    if x.ndim == 4:
        i = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        if name == "cnn":  # faster so, as tests/benchmarks/steps.py has it
            model, i = model.to(memory_format=torch.channels_last), i.contiguous(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step() -> float:
        adam.zero_grad(set_to_none=True)
        out = model(i)
        value = functional.cross_entropy(out.view(-1, out.shape[-1]), j.view(-1))
        value.backward()
        adam.step()
        return value.item()

    return step


def contestants() -> Any:
    """The models that tests/benchmarks/contestants.py has in PyTorch."""
    spec = importlib.util.spec_from_file_location("contestants", Path(__file__).with_name("contestants.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["contestants"] = module  # annotations are looked up there
    spec.loader.exec_module(module)
    return module


def torch_resnet(widths: tuple[int, ...]) -> Any:
    """ResNet-18 for 32x32, with torchvision's operations (ReLU in place)."""
    import torch
    import torch.nn.functional as functional

    t = torch.nn

    class Block(t.Module):
        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            self.conv1 = t.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
            self.conv2 = t.Conv2d(outer, outer, 3, padding=1, bias=False)
            self.bn1, self.bn2 = t.BatchNorm2d(outer), t.BatchNorm2d(outer)
            self.downsample = None
            if stride != 1 or inner != outer:
                self.downsample = t.Sequential(t.Conv2d(inner, outer, 1, stride, bias=False), t.BatchNorm2d(outer))

        def forward(self, x: Any) -> Any:
            past = x if self.downsample is None else self.downsample(x)
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)), inplace=True)))
            return functional.relu(y.add_(past), inplace=True)

    layers: list[Any] = [
        t.Conv2d(3, widths[0], 3, padding=1, bias=False),
        t.BatchNorm2d(widths[0]),
        t.ReLU(inplace=True),
    ]
    inner = widths[0]
    for number, width in enumerate(widths):
        layers += [Block(inner, width, 2 if number else 1), Block(width, width, 1)]
        inner = width
    return t.Sequential(*layers, t.AdaptiveAvgPool2d(1), t.Flatten(), t.Linear(inner, 10))


def measured_here(name: str, peer: str) -> None:
    full, small = getattr(Sizes, name)
    if peer == TORCH:
        import torch

        torch.set_num_threads(1)
        make = theirs
    else:
        from allgrad import kernels

        kernels.set_up_blas(threads=1)
        kernels.use(peer)
        make = ours
    print(json.dumps(peak_above_level(lambda little: make(name, small if little else full))))


def measured(name: str, peer: str, repeat: int) -> tuple[float, float]:
    """The medians of that many processes."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "MKL_", "OMP_", "MALLOC_"))}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    command = [sys.executable, __file__, name, "--peers", peer, "--here"]
    figures = []
    for _ in range(repeat):
        done = subprocess.run(command, env=keep | threads, check=True, stdout=subprocess.PIPE, text=True)
        figures.append(json.loads(done.stdout))
    peaks, totals = zip(*figures, strict=True)
    return statistics.median(peaks), statistics.median(totals)


def main() -> None:
    names = [name for name in vars(Sizes) if not name.startswith("_")]
    sets = ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]
    parser = argparse.ArgumentParser(description="Peak memory of training steps, beside PyTorch.")
    parser.add_argument("which", nargs="*", default=names, help=", ".join(names))
    parser.add_argument("--peers", nargs="+", default=[*sets, TORCH])
    parser.add_argument("--repeat", type=int, default=3, help="processes a figure; the median counts")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measured_here(options.which[0], options.peers[0])
        return
    for name in options.which:
        peaks = {peer: measured(name, peer, options.repeat) for peer in options.peers}
        for peer, (peak, total) in peaks.items():
            ratio = f"{peak / peaks[TORCH][0]:5.2f} of PyTorch's" if TORCH in peaks else ""
            print(f"{name:8s}{peer:8s}{peak:8.1f} MB {ratio}   (whole process {total:.0f} MB)", flush=True)


if __name__ == "__main__":
    main()
