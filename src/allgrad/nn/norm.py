"""Layer norm, RMS norm, and group norm. Their statistics are those of one sample, so nothing crosses samples or workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from allgrad import kernels
from allgrad.autodiff import Fused
from allgrad.kernels.blocks import as_rows
from allgrad.nn.checks import refuse_input
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.gradients import by_worker, gradient_for, sum_gradient
from allgrad.nn.module import Module
from allgrad.nn.parameter import Parameter

Array = np.ndarray[Any, Any]


def _layer_norm_forward(x: Array, weight: Array | None, bias: Array | None, *, eps: float) -> tuple[Array, Any]:
    y, mean, inverse = kernels.active().layer_norm_forward(x, weight, bias, eps)
    return y, (x, mean, inverse, weight, bias)


def _layer_norm_backward(g: Array, residuals: Any, *, needs: Any, into: Any, eps: float) -> tuple[Any, Any, Any]:  # noqa: ARG001
    x, mean, inverse, weight, bias = residuals
    dweight = gradient_for(weight, into[1]) if needs[1] else None
    dbias = gradient_for(bias, into[2]) if needs[2] else None
    features, dx = x.shape[-1], np.empty(x.shape, x.dtype)
    g2, x2, dx2 = (a.reshape(-1, features) for a in (np.ascontiguousarray(g), np.ascontiguousarray(x), dx))
    for rows, (dw, db) in by_worker(len(x2), dweight, dbias):
        kernels.active().layer_norm_backward(
            g2[rows], x2[rows], mean[rows], inverse[rows], weight, out=dx2[rows], dweight=dw, dbias=db
        )
    return dx, dweight, dbias


def _layer_norm_reference(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    y = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps)
    return _affine(y, weight, bias)


def _affine(y: Any, weight: Any, bias: Any) -> Any:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


layer_norm = Fused(
    _layer_norm_forward, _layer_norm_backward, name="layer_norm", reference=_layer_norm_reference, by_worker=True
)


def _rms_norm_forward(x: Array, weight: Array | None, *, eps: float) -> tuple[Array, Any]:
    y, inverse = kernels.active().rms_norm_forward(x, weight, eps)
    return y, (x, inverse, weight)


def _rms_norm_backward(g: Array, residuals: Any, *, needs: Any, into: Any, eps: float) -> tuple[Any, Any]:  # noqa: ARG001
    x, inverse, weight = residuals
    dweight = gradient_for(weight, into[1]) if needs[1] else None
    features, dx = x.shape[-1], np.empty(x.shape, x.dtype)
    g2, x2, dx2 = (a.reshape(-1, features) for a in (np.ascontiguousarray(g), np.ascontiguousarray(x), dx))
    for rows, (dw,) in by_worker(len(x2), dweight):
        kernels.active().rms_norm_backward(g2[rows], x2[rows], inverse[rows], weight, out=dx2[rows], dweight=dw)
    return dx, dweight


def _rms_norm_reference(x: Any, weight: Any, *, eps: float) -> Any:
    return _affine(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps), weight, None)


rms_norm = Fused(_rms_norm_forward, _rms_norm_backward, name="rms_norm", reference=_rms_norm_reference, by_worker=True)


def _by_group(x: Array, groups: int) -> Array:
    """(batch, ..., channels) as (batch, groups, pixels * channels / groups), a copy."""
    n, channels = x.shape[0], x.shape[-1]
    return x.reshape(n, -1, groups, channels // groups).transpose(0, 2, 1, 3).reshape(n, groups, -1)


def _by_pixel(grouped: Array, shape: tuple[int, ...]) -> Array:
    n, groups = grouped.shape[:2]
    return grouped.reshape(n, groups, -1, shape[-1] // groups).transpose(0, 2, 1, 3).reshape(shape)


def _group_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, *, groups: int, eps: float
) -> tuple[Array, Any]:
    grouped = _by_group(x, groups)
    normal, mean, inverse = kernels.active().layer_norm_forward(grouped, None, None, eps)
    y = _by_pixel(normal, x.shape)
    return _affine(y, weight, bias), (grouped, y, mean, inverse, weight, bias)


def _group_norm_backward(
    g: Array,
    residuals: Any,
    *,
    needs: Any,
    into: Any,
    groups: int,
    eps: float,  # noqa: ARG001
) -> tuple[Any, Any, Any]:
    grouped, y, mean, inverse, weight, bias = residuals
    dweight = dbias = None
    if needs[2]:
        dbias = gradient_for(bias, into[2])
        sum_gradient(as_rows(g), dbias)
    if needs[1]:
        dweight = gradient_for(weight, into[1])
        sum_gradient(as_rows(g * y), dweight)
    if not needs[0]:
        return None, dweight, dbias
    scaled = _by_group(g if weight is None else g * weight, groups)
    dx = kernels.active().layer_norm_backward(scaled, grouped, mean, inverse, None)
    return _by_pixel(dx, y.shape), dweight, dbias


def _group_norm_reference(x: Any, weight: Any, bias: Any, *, groups: int, eps: float) -> Any:
    n, channels = x.shape[0], x.shape[-1]
    cut = np.reshape(x, (n, -1, groups, channels // groups))
    centred = cut - np.mean(cut, axis=(1, 3), keepdims=True)
    y = centred / np.sqrt(np.mean(centred * centred, axis=(1, 3), keepdims=True) + eps)
    return _affine(np.reshape(y, x.shape), weight, bias)


group_norm = Fused(
    _group_norm_forward, _group_norm_backward, name="group_norm", reference=_group_norm_reference, by_worker=True
)


class _Norm(Module):
    """What the three have in common: weight and bias along the last axis, and eps."""

    def __init__(self, features: int, *, eps: float, affine: bool, bias: bool, dtype: npt.DTypeLike) -> None:
        if features < 1:
            raise LayerOptionError(f"{type(self).__name__}: features must be 1 or more. Got {features} instead.")
        self.features, self.eps = features, eps
        self.weight = Parameter(np.ones(features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(features, dtype)) if affine and bias else None

    def check(self, x: Any) -> None:
        """Raise if x is not (..., features) of the weight's dtype."""
        dtype = getattr(x, "dtype", None)
        expected = dtype if self.weight is None else self.weight.value.dtype
        if dtype != expected or dtype is None or dtype.kind != "f" or not x.ndim or x.shape[-1] != self.features:
            refuse_input(self, x, self.features, np.dtype(np.float32) if self.weight is None else self.weight.dtype)

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps}{'' if self.weight is not None else ', affine=False'}"


class LayerNorm(_Norm):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis.

    x: (..., features) float; result: the same shape.

    Reference: Ba, Kiros & Hinton, "Layer Normalization" (2016).

    Args:
        features: length of the last axis.
        eps: added to the variance.
        affine: whether there are a weight and a bias (PyTorch's elementwise_affine).
        bias: whether there is a bias, if `affine`.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if `features` is below 1.
        InputError, InputTypeError: if an input has the wrong shape or dtype.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> y = nn.LayerNorm(4)(np.array([[1.0, 2.0, 3.0, 4.0]], np.float32))
    >>> round(float(y.value.std()), 3)
    1.0
    """

    rows_independent = True

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__(features, eps=eps, affine=affine, bias=bias, dtype=dtype)

    def forward(self, x: Any) -> Any:
        self.check(x)
        return layer_norm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(_Norm):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis.

    x: (..., features) float; result: the same shape.

    Reference: Zhang & Sennrich, "Root Mean Square Layer Normalization" (NeurIPS 2019).

    Args:
        features: length of the last axis.
        eps: added to the mean square. PyTorch's default is the machine epsilon of the dtype.
        affine: whether there is a weight.
        dtype: of the weight and the input, float32 or float64.

    Raises:
        LayerOptionError: if `features` is below 1.
        InputError, InputTypeError: if an input has the wrong shape or dtype.
    """

    rows_independent = True

    def __init__(
        self, features: int, *, eps: float = 1e-6, affine: bool = True, dtype: npt.DTypeLike = np.float32
    ) -> None:
        super().__init__(features, eps=eps, affine=affine, bias=False, dtype=dtype)

    def forward(self, x: Any) -> Any:
        self.check(x)
        return rms_norm(x, self.weight, eps=self.eps)


class GroupNorm(_Norm):
    """Layer norm of each group of channels over all pixels.

    x: (batch, ..., channels) float; result: the same shape.

    Reference: Wu & He, "Group Normalization" (ECCV 2018).

    Args:
        groups: number of groups of neighboring channels; a divisor of `channels`.
        channels: length of the last axis.
        eps: added to the variance.
        affine: whether there are a weight and a bias.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if `groups` does not divide `channels`.
        InputError, InputTypeError: if an input has the wrong shape or dtype.
    """

    rows_independent = True

    def __init__(
        self, groups: int, channels: int, *, eps: float = 1e-5, affine: bool = True, dtype: npt.DTypeLike = np.float32
    ) -> None:
        if groups < 1 or channels % groups:
            raise LayerOptionError(
                f"GroupNorm: groups must divide the channels. Got {groups} groups, {channels} channels."
            )
        super().__init__(channels, eps=eps, affine=affine, bias=True, dtype=dtype)
        self.groups = groups

    def forward(self, x: Any) -> Any:
        self.check(x)
        if x.ndim < 2:
            raise InputError(f"{self.where()}: expects (batch, ..., {self.features}). Got shape {x.shape} instead.")
        return group_norm(x, self.weight, self.bias, groups=self.groups, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.groups} groups, {super().extra_repr()}"
