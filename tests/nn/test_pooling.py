"""Pooling against PyTorch over its options, higher derivatives, and what the layers refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.nn.pooling import max_pool

REASON = "PyTorch is what it is compared with"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def first(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, -1, 1)


WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2), "padding": (0, 1)},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    {"kernel_size": 4, "stride": 4, "padding": 2, "ceil_mode": True},
]


@pytest.mark.parametrize(
    "options", [*WINDOWS, {"kernel_size": 2, "dilation": 2}, {"kernel_size": 3, "dilation": (1, 2)}]
)
def test_max_pool2d_equals_torch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    x = normal(2, 9, 10, 3).astype(np.float32)
    check_against_torch(nn.MaxPool2d(**options), torch.nn.MaxPool2d(**options), x, to_torch=first, steps=0)


@pytest.mark.parametrize(
    "options", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}]
)
def test_max_pool1d_equals_torch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    x = normal(2, 10, 3).astype(np.float32)
    check_against_torch(nn.MaxPool1d(**options), torch.nn.MaxPool1d(**options), x, to_torch=first, steps=0)


def test_of_equal_pixels_the_first_gets_the_gradient_as_in_torch() -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    x = np.ones((1, 6, 6, 1), np.float32)
    for ours, theirs in (
        (nn.MaxPool2d(3, 2, 1), torch.nn.MaxPool2d(3, 2, 1)),
        (nn.MaxPool2d(2), torch.nn.MaxPool2d(2)),
    ):
        check_against_torch(ours, theirs, x, to_torch=first, steps=0)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("options", WINDOWS)
def test_avg_pool2d_equals_torch(options: dict[str, Any], include: bool) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    options = {**options, "count_include_pad": include}
    x = normal(2, 9, 10, 3).astype(np.float32)
    check_against_torch(nn.AvgPool2d(**options), torch.nn.AvgPool2d(**options), x, to_torch=first, steps=0)


@pytest.mark.parametrize("size", [1, 3, (2, 5), (None, 1), 12])
def test_adaptive_avg_pool2d_equals_torch(size: Any) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    x = normal(2, 7, 8, 3).astype(np.float32)
    check_against_torch(nn.AdaptiveAvgPool2d(size), torch.nn.AdaptiveAvgPool2d(size), x, to_torch=first, steps=0)


@pytest.mark.parametrize("extra", [(0, 0), (1, 2)])
def test_max_pool_higher_derivatives(extra: tuple[int, int]) -> None:
    def f(x: Any) -> Any:
        y = max_pool(x, window=(3, 2), stride=(2, 2), padding=(1, 0), dilation=(1, 1), extra=extra)
        return y * y * y

    check_derivatives(f, [normal(1, 6, 7, 2)])


@pytest.mark.parametrize("layer", [nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d((2, 3))])
def test_averages_higher_derivatives(layer: nn.Module) -> None:
    check_derivatives(lambda x: layer(x) * layer(x * x), [normal(1, 5, 7, 2)])


def test_dtype_is_kept() -> None:
    for dtype in (np.float32, np.float64):
        for layer in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)):
            x = ag.tensor(np.ones((1, 4, 4, 2), dtype), requires_grad=True)
            y = layer(x)
            np.sum(y).backward()
            assert y.dtype == x.grad.dtype == dtype


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (nn.MaxPool2d(3), (1, 2, 8, 4), r"MaxPool2d 'pool'.*\(3, 3\).*\(1, 2, 8, 4\)"),
        (nn.AvgPool2d(3), (2, 8, 4), r"AvgPool2d 'pool'.*\(batch, height, width, channels\).*\(2, 8, 4\)"),
        (nn.MaxPool1d(3), (2, 8, 4, 1), r"MaxPool1d 'pool'.*\(batch, length, channels\).*\(2, 8, 4, 1\)"),
        (nn.AdaptiveAvgPool2d(1), (8, 4), r"AdaptiveAvgPool2d 'pool'.*\(8, 4\)"),
    ],
)
def test_bad_shapes_name_the_layer_and_both_shapes(layer: nn.Module, shape: tuple[int, ...], words: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.pool = layer

        def forward(self, x: Any) -> Any:
            return self.pool(x)

    with pytest.raises(ValueError, match=words):
        Net()(np.zeros(shape, np.float32))


def test_bad_options_and_dtypes() -> None:
    with pytest.raises(ValueError, match="at most half"):
        nn.AvgPool2d(2, padding=2)
    with pytest.raises(ValueError, match="kernel_size"):
        nn.MaxPool2d(0)
    with pytest.raises(ValueError, match="output_size"):
        nn.AdaptiveAvgPool2d(0)
    with pytest.raises(TypeError, match=r"floating.*int64"):
        nn.AvgPool2d(2)(np.zeros((1, 4, 4, 1), np.int64))
