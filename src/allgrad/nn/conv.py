"""Convolution layers, channels last: Conv1d, Conv2d, ConvTranspose2d.

The bias, activation, and max-pooling of a convolution run on each sample while it is in cache; see `convolution/`. Files have
PyTorch's layout.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from allgrad.nn import init
from allgrad.nn.activations import ActivationFunction, activation_function
from allgrad.nn.checks import refuse_image
from allgrad.nn.convolution.epilogue import MONOTONIC, Epilogue
from allgrad.nn.convolution.geometry import Geometry, Padding, Pair, padding_sides, pair
from allgrad.nn.convolution.operation import convolve, convolve_transposed
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.module import Module
from allgrad.nn.parameter import Parameter, TorchLayout

KERNEL_2D = TorchLayout(lambda a: a.transpose(3, 2, 0, 1), lambda a: a.transpose(2, 3, 1, 0))
"""Our layout is (kh, kw, in / groups, out), PyTorch's (out, in / groups, kh, kw)."""

KERNEL_1D = TorchLayout(lambda a: a[0].T, lambda a: a.T[None])
"""Our layout is (1, k, in / groups, out), PyTorch's (out, in / groups, k)."""


class _Convolution(Module):
    """What the layers have in common: the kernel, the bias, and the check of inputs."""

    axes: tuple[str, ...] = ("height", "width")
    epilogue = Epilogue()

    @property
    def activation(self) -> ActivationFunction | None:
        """The activation that runs inside this layer."""
        return self.epilogue.activation

    def _build(
        self,
        in_channels: int,
        out_channels: int,
        geometry: Geometry,
        shape: tuple[int, ...],
        layout: TorchLayout,
        *,
        bias: bool,
        rng: init.Rng,
        dtype: npt.DTypeLike,
    ) -> None:
        rng = init.generator(rng)
        self.in_channels, self.out_channels, self.geometry = in_channels, out_channels, geometry
        self.weight = Parameter(init.fan_in_uniform(shape, rng, dtype=dtype), layout=layout)
        self.bias = None
        if bias:
            bound = 1 / math.sqrt(math.prod(shape[:-1]))
            self.bias = Parameter(init.uniform((out_channels,), rng, bound=bound, dtype=dtype))

    def _check(self, x: Any) -> None:
        dtype = getattr(x, "dtype", None)
        if dtype != self.weight.value.dtype or x.ndim != 2 + len(self.axes) or x.shape[-1] != self.in_channels:
            refuse_image(self, x, (self.axes,), self.in_channels, self.weight.dtype)

    def extra_repr(self) -> str:
        g = self.geometry
        one = len(self.axes) == 1
        parts = [f"{self.in_channels} -> {self.out_channels}", f"kernel {g.kernel[1] if one else g.kernel}"]
        for name, value, default in (
            ("stride", g.stride, (1, 1)),
            ("padding", g.padding, ((0, 0), (0, 0))),
            ("dilation", g.dilation, (1, 1)),
            ("groups", g.groups, 1),
        ):
            if value != default:
                parts.append(f"{name}={value[1] if one and isinstance(value, tuple) else value}")
        return ", ".join(parts + ([] if self.bias is not None else ["bias=False"]))


def _geometry(
    layer: str, in_channels: int, out_channels: int, kernel_size: int | Pair, stride: int | Pair, padding: Padding,
    dilation: int | Pair, groups: int, *, one_axis: bool = False,
) -> Geometry:  # fmt: skip
    """The options of a layer, checked. A layer with one axis has the geometry of images with one row."""
    if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
        raise LayerOptionError(
            f"{layer}: channels and groups must be 1 or more, and groups must divide both channels. "
            f"Got {in_channels} in, {out_channels} out, {groups} groups."
        )
    options = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    kernel, step, gaps = (pair(value, f"{layer}: {name}", 1) for name, value in options.items())
    if one_axis:
        kernel, step, gaps = ((1, both[1]) for both in (kernel, step, gaps))
        padding = padding if isinstance(padding, str) else (0, pair(padding, f"{layer}: padding", 0)[1])
    geometry = Geometry(kernel, step, dilation=gaps, groups=groups)
    return geometry._replace(padding=padding_sides(layer, padding, geometry))


class Conv2d(_Convolution):
    """Two-dimensional cross-correlation: y = pool(activation(x * weight + bias)).

    x: (batch, height, width, in_channels) float; result: (batch, height', width', out_channels) float. The weight is
    (kh, kw, in_channels / groups, out_channels); in files it is (out_channels, in_channels / groups, kh, kw), as in PyTorch.

    3x3 kernels with stride 1 and at least 16 channels are computed by Winograd's algorithm. Its rounding errors are larger than
    those of a direct sum: twice as large with 32 channels, 4.5 times with 256 (root mean square; 1.5e-6 for outputs of size 1).

    Args:
        in_channels: length of the last axis of x.
        out_channels: length of the last axis of the result.
        kernel_size: pixels of the kernel: one number, or one per axis.
        stride: pixels between two windows: one number, or one per axis.
        padding: zeros on both sides of each axis, "same" (for stride 1), or "valid" (none).
        dilation: pixels between two entries of the kernel: one number, or one per axis.
        groups: number of groups of channels; outputs of a group see inputs of that group only.
        bias: whether there is a bias.
        activation: runs on each sample while it is in cache: "relu", ...; see `activations.ACTIVATIONS`.
        pool: max-pooling by tiles of this size, which also runs in cache; the image before pooling is never stored. Needs a
            monotonic activation or none.
        rng: source of the initial numbers: uniform within 1 / sqrt(fan_in), weight first.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError, InputTypeError: if an input has the wrong shape or dtype; the message names the layer's path.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> layer = nn.Conv2d(3, 8, 3, padding=1, activation="relu", pool=2, rng=0)
    >>> layer(np.ones((2, 8, 8, 3), np.float32)).shape
    (2, 4, 4, 8)
    """

    rows_independent = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: Padding = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | ActivationFunction | None = None,
        pool: int | Pair | None = None,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        geometry = _geometry("Conv2d", in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        shape = (*geometry.kernel, in_channels // groups, out_channels)
        self._build(in_channels, out_channels, geometry, shape, KERNEL_2D, bias=bias, rng=rng, dtype=dtype)
        self.epilogue = Epilogue(
            activation_function(activation), None if pool is None else pair(pool, "Conv2d: pool", 1)
        )
        refusal = _refusal(self.epilogue)
        if refusal is not None:
            raise LayerOptionError(refusal)

    def forward(self, x: Any) -> Any:
        return self.with_activation(x, self.epilogue.activation)

    def can_pool(self, activation: ActivationFunction | None, tile: Pair) -> bool:
        """Whether this layer, with this activation, can run max-pooling by these tiles inside."""
        return self.epilogue.pool is None and _refusal(Epilogue(activation, tile)) is None

    def with_activation(self, x: Any, activation: ActivationFunction | None, pool: Pair | None = None) -> Any:
        """Run this layer with another activation instead of its own, and with pooling if it has none."""
        self._check(x)
        epilogue = Epilogue(activation, self.epilogue.pool if pool is None else pool)
        if min(epilogue.output(self.geometry.output(x.shape[1:3]))) < 1:
            raise InputError(
                f"{self.where()}: a kernel that spans {self.geometry.reach} pixels"
                f"{'' if epilogue.pool is None else f' and pooling by {epilogue.pool}'} does not fit an input of shape "
                f"{x.shape} with padding {self.geometry.padding}."
            )
        return convolve(x, self.weight, self.bias, geometry=self.geometry, epilogue=epilogue)

    def extra_repr(self) -> str:
        parts = [super().extra_repr()]
        if self.epilogue.activation is not None:
            parts.append(self.epilogue.activation.name)
        if self.epilogue.pool is not None:
            parts.append(f"pool={self.epilogue.pool}")
        return ", ".join(parts)


def _refusal(epilogue: Epilogue) -> str | None:
    """Why this activation and pooling cannot run together, or None if they can."""
    if epilogue.pool is not None and epilogue.activation is not None and epilogue.activation.name not in MONOTONIC:
        return (
            f"Conv2d: pool=... needs a monotonic activation ({', '.join(MONOTONIC)}) or none. "
            f"Got {epilogue.activation.name!r} instead; use nn.MaxPool2d after this layer."
        )
    if epilogue.pool is not None and math.prod(epilogue.pool) > 256:
        return f"Conv2d: a tile of pool=... can have at most 256 pixels. Got {epilogue.pool}; use nn.MaxPool2d."
    return None


class Conv1d(_Convolution):
    """One-dimensional cross-correlation.

    x: (batch, length, in_channels) float; result: (batch, length', out_channels) float. The weight is
    (1, k, in_channels / groups, out_channels); in files it is (out_channels, in_channels / groups, k), as in PyTorch. Arguments
    and errors are those of `Conv2d`, with one number where that has one per axis.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.Conv1d(4, 6, 3, stride=2, rng=0)(np.ones((2, 9, 4), np.float32)).shape
    (2, 4, 6)
    """

    rows_independent = True

    axes = ("length",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | Literal["same", "valid"] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | ActivationFunction | None = None,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        geometry = _geometry(
            "Conv1d", in_channels, out_channels, kernel_size, stride, padding, dilation, groups, one_axis=True
        )
        shape = (*geometry.kernel, in_channels // groups, out_channels)
        self._build(in_channels, out_channels, geometry, shape, KERNEL_1D, bias=bias, rng=rng, dtype=dtype)
        self.epilogue = Epilogue(activation_function(activation))

    def forward(self, x: Any) -> Any:
        return self.with_activation(x, self.epilogue.activation)

    def with_activation(self, x: Any, activation: ActivationFunction | None) -> Any:
        """Run this layer with another activation instead of its own."""
        self._check(x)
        n, length, channels = x.shape
        if self.geometry.output((1, length))[1] < 1:
            raise InputError(
                f"{self.where()}: a kernel that spans {self.geometry.reach[1]} steps does not fit an input of shape "
                f"{x.shape} with padding {self.geometry.padding[1]}."
            )
        image = np.reshape(x, (n, 1, length, channels))
        y = convolve(image, self.weight, self.bias, geometry=self.geometry, epilogue=Epilogue(activation))
        return np.reshape(y, (n, y.shape[2], self.out_channels))


class ConvTranspose2d(_Convolution):
    """The transpose (input gradient) of a two-dimensional convolution. It enlarges images by its stride.

    x: (batch, height, width, in_channels) float; result: (batch, height', width', out_channels) float, with
    height' = (height - 1) stride - 2 padding + dilation (kh - 1) + 1 + output_padding. The weight is
    (kh, kw, out_channels / groups, in_channels); in files it is (in_channels, out_channels / groups, kh, kw), as in PyTorch.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, rng, dtype: see `Conv2d`.
        output_padding: additional rows and columns at the end, fewer than the stride.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError, InputTypeError: if an input has the wrong shape or dtype.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.ConvTranspose2d(4, 6, 2, stride=2, rng=0)(np.ones((2, 5, 5, 4), np.float32)).shape
    (2, 10, 10, 6)
    """

    rows_independent = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        geometry = _geometry(
            "ConvTranspose2d", in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        )
        self.output_padding = pair(output_padding, "ConvTranspose2d: output_padding", 0)
        if any(o >= s for o, s in zip(self.output_padding, geometry.stride, strict=True)):
            raise LayerOptionError(
                f"ConvTranspose2d: output_padding must be smaller than the stride {geometry.stride}. "
                f"Got {self.output_padding} instead."
            )
        shape = (*geometry.kernel, out_channels // groups, in_channels)
        self._build(in_channels, out_channels, geometry, shape, KERNEL_2D, bias=bias, rng=rng, dtype=dtype)

    def forward(self, x: Any) -> Any:
        self._check(x)
        image = self._image(x.shape[1:3])
        if min(image) < 1:
            raise InputError(
                f"{self.where()}: padding {self.geometry.padding} leaves no output for an input of shape {x.shape}."
            )
        return convolve_transposed(x, self.weight, self.bias, geometry=self.geometry, image=image)

    def _image(self, small: Pair) -> Pair:
        g = self.geometry
        height, width = (
            (small[i] - 1) * g.stride[i] - sum(g.padding[i]) + g.reach[i] + self.output_padding[i] for i in (0, 1)
        )
        return height, width
