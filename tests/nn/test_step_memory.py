"""The memory of a training step is bounded by what must be kept, derived from the model's shapes, and counted by tracemalloc."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad import kernels, nn, optim
from allgrad.kernels.blocks import BLOCK
from allgrad.nn.convolution import winograd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOAT = 4
SLACK = 2 * BLOCK * FLOAT
"""A product's block and a block of a kernel; Python's objects besides are small."""


@pytest.fixture(autouse=True)
def numpy_kernels() -> Iterator[None]:
    before = kernels.active().name
    kernels.use("numpy")
    yield
    kernels.use(before)


def peak_of(step: Callable[[], Any]) -> int:
    """Bytes above what lives between steps, at the worst moment of a step, without help of the garbage collector."""
    step()  # scratch memory that is kept
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        step()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        step()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 100_000  # a step leaves nothing behind
    return peak - before


def training_step(model: Any, x: Any, y: Any) -> Callable[[], None]:
    optimizer, loss = optim.Adam(model.named_parameters(), lr=1e-3), nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return step


def test_an_mlp_keeps_its_hidden_layers_once() -> None:
    width, batch, hidden = 512, 1024, 5
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, 16), np.float32), rng.integers(0, 10, batch)
    peak = peak_of(training_step(nn.models.MLP([16, *[width] * hidden, 10], rng=0), x, y))
    # All hidden layers; and at the last of them its cotangent, that within its activation, and that of its input.
    layer = batch * width * FLOAT
    assert hidden * layer < peak < (hidden + 3) * layer + SLACK


def test_backward_frees_as_it_walks() -> None:
    # The layer at the input is wide: if the narrow ones lived on, its cotangents would come on top of them.
    widths, batch = [16, 1024, 512, 512, 512, 512, 10], 1024
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, 16), np.float32), rng.integers(0, 10, batch)
    peak = peak_of(training_step(nn.models.MLP(widths, rng=0), x, y))
    unit = batch * 512 * FLOAT
    # At the last narrow layer: six units kept, three of cotangents. At the wide one: two kept, four of cotangents.
    assert peak < 9 * unit + SLACK


def test_a_convolution_of_large_kernels_transforms_them_in_blocks() -> None:
    channels, batch = 256, 32
    x = np.random.default_rng(0).standard_normal((batch, 4, 4, channels), np.float32)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, rng=0)
    optimizer = optim.SGD(layer.named_parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        np.sum(layer(x)).backward()
        optimizer.step()

    places = 36 * batch * channels * FLOAT  # one tile a sample
    tiles = (3 + 16 / 36) * places  # of input and output, and their transforms
    frames = 2 * batch * 8 * 8 * channels * FLOAT
    block = (1 + 9 / 36) * winograd.KERNEL * FLOAT  # and its taps
    whole = 36 * channels * channels * FLOAT
    bound = block + tiles + frames + 3 * x.nbytes + SLACK
    assert whole > block + SLACK  # else this tests nothing
    assert peak_of(step) < bound
