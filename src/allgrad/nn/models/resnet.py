"""ResNet-18 for small images (He, Zhang, Ren & Sun, CVPR 2016)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from allgrad.nn import init
from allgrad.nn.batchnorm import BatchNorm2d, SyncBatchNorm
from allgrad.nn.conv import Conv2d
from allgrad.nn.linear import Linear
from allgrad.nn.module import Module
from allgrad.nn.pooling import AdaptiveAvgPool2d
from allgrad.nn.sequential import Sequential

WIDTHS = (64, 128, 256, 512)


class BasicBlock(Module):
    """Two 3x3 convolutions with batch norm and a skip connection, which has a 1x1 convolution where the shape changes."""

    rows_independent = True

    def __init__(
        self,
        inner: int,
        outer: int,
        stride: int,
        norm: type[BatchNorm2d | SyncBatchNorm],
        rng: np.random.Generator,
        dtype: Any,
    ) -> None:
        options = {"bias": False, "rng": rng, "dtype": dtype}
        self.conv1 = Conv2d(inner, outer, 3, stride=stride, padding=1, **options)
        self.bn1 = norm(outer, activation="relu", dtype=dtype)
        self.conv2 = Conv2d(outer, outer, 3, padding=1, **options)
        self.bn2 = norm(outer, activation="relu", dtype=dtype)
        self.downsample = None
        if stride != 1 or inner != outer:
            self.downsample = Sequential(Conv2d(inner, outer, 1, stride=stride, **options), norm(outer, dtype=dtype))

    def forward(self, x: Any) -> Any:
        residual = x if self.downsample is None else self.downsample(x)
        return self.bn2(self.conv2(self.bn1(self.conv1(x))), residual)


class ResNet18(Module):
    """Four stages of two residual blocks each, global average pooling, and a linear layer.

    x: (batch, height, width, channels) float, or (batch, height, width) for one channel; result (logits): (batch, classes) float.
    The first layer is a 3x3 convolution without pooling, as usual for images of 32x32. The names of parameters and the
    initial distribution of kernels (normal with variance 2 / fan_out, He et al. 2015) are those of torchvision.

    Args:
        classes: number of logits.
        channels: of the images.
        widths: channels of the four stages; (64, 128, 256, 512) is ResNet-18.
        sync: whether batch norm takes its statistics over all virtual workers.
        rng: source of the initial numbers.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        InputError, InputTypeError: if an input has the wrong shape or dtype, or in training a stage has only one value per
            channel.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> model = nn.models.ResNet18(10, widths=(4, 8, 8, 8), rng=0)
    >>> model(np.ones((2, 32, 32, 3), np.float32)).shape
    (2, 10)
    """

    rows_independent = True

    def __init__(
        self,
        classes: int = 10,
        *,
        channels: int = 3,
        widths: tuple[int, int, int, int] = WIDTHS,
        sync: bool = False,
        rng: init.Rng = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        rng = init.generator(rng)
        norm = SyncBatchNorm if sync else BatchNorm2d
        self.conv1 = Conv2d(channels, widths[0], 3, padding=1, bias=False, rng=rng, dtype=dtype)
        self.bn1 = norm(widths[0], activation="relu", dtype=dtype)
        inner = widths[0]
        for number, width in enumerate(widths, start=1):
            blocks = [
                BasicBlock(inner, width, 2 if number > 1 else 1, norm, rng, dtype),
                BasicBlock(width, width, 1, norm, rng, dtype),
            ]
            setattr(self, f"layer{number}", Sequential(*blocks))
            inner = width
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(inner, classes, rng=rng, dtype=dtype)
        self.apply(lambda module: _start(module, rng))

    def forward(self, x: Any) -> Any:
        if x.ndim == 3:
            x = np.reshape(x, (*x.shape, 1))
        x = self.bn1(self.conv1(x))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        x = self.avgpool(x)
        return self.fc(np.reshape(x, (x.shape[0], x.shape[3])))


def _start(module: Module, rng: np.random.Generator) -> None:
    if isinstance(module, Conv2d):
        kh, kw, _, outer = module.weight.shape
        std = math.sqrt(2 / (kh * kw * outer))
        module.weight.assign(init.normal(module.weight.shape, rng, std=std, dtype=module.weight.dtype))
