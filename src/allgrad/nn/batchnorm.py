"""Batch norm: each channel is centered and scaled by the statistics of the batch (Ioffe & Szegedy 2015).

With n pixels in the batch, d = x - mean, r = 1 / sqrt(mean(d^2) + eps), and y = d r weight + bias, the gradients are

    dbias = sum(g),   dweight = r sum(g d),   dx = r weight (g - sum(g) / n - d r^2 sum(g d) / n).

For `SyncBatchNorm`, n and all four sums are over the batches of all virtual workers. dweight and dbias remain those of the
worker, since the reducer adds them. Data parallelism supplies the function that sums over workers (`batch_statistics.py`).
Each layer calls it twice in forward and once in backward, in the same order on each worker. Without it, and in evaluation, the
layer is plain batch norm.

If the samples of several workers run as one batch (`batched_workers.py`), each worker's rows have statistics of their own.

Running statistics are buffers. They change only in training, and not when `ag.checkpoint` computes a forward pass again.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.autodiff import Fused, Tensor, on_recompute
from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.modes import CURRENT
from allgrad.kernels import active
from allgrad.kernels.blocks import as_rows
from allgrad.nn.activations import ActivationFunction, activate, activation_function
from allgrad.nn.batch_statistics import blocks, statistics, sum_over_workers
from allgrad.nn.batched_workers import ONE_WORKER, OneByOneError, Workers, current_workers
from allgrad.nn.checks import refuse_image
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.gradients import each_gradient, gradient_for
from allgrad.nn.module import Module
from allgrad.nn.parameter import Array, Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_recomputing: ContextVar[bool] = ContextVar("allgrad_batch_norm_recomputing", default=False)


@contextmanager
def _again() -> Iterator[None]:
    token = _recomputing.set(True)
    try:
        yield
    finally:
        _recomputing.reset(token)


def _snapshot() -> Callable[[], AbstractContextManager[None]]:
    return _again


on_recompute(_snapshot)


def _forward(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    *,
    mean: Array,
    variance: Array,
    count: Array,  # noqa: ARG001
    workers: Workers,
    eps: float,
    activation: ActivationFunction | None,
    reduce: Any,  # noqa: ARG001
) -> tuple[Array, Any]:
    rows = as_rows(x)
    inverse = 1 / np.sqrt(variance + eps)
    scale = (inverse if weight is None else inverse * weight).astype(x.dtype)
    centre = mean.astype(x.dtype)
    # The mean that is subtracted was rounded; the remainder goes into the bias.
    rest = mean - centre
    shift = (-rest * scale if bias is None else bias - rest * scale).astype(x.dtype)
    y = np.empty_like(rows)
    skip = None if residual is None else as_rows(residual)
    derivative = (
        np.empty_like(y) if activation is not None and activation.needs_derivative and CURRENT.get().recording else None
    )
    for i, span in enumerate(workers.spans(len(rows))):
        for block in blocks(span, rows.shape[1]):
            part = np.subtract(rows[block], centre[i], out=None if activation is not None else y[block])
            np.multiply(part, scale[i], out=part)
            np.add(part, shift[i], out=part)
            if skip is not None:
                np.add(part, skip[block], out=part)
            if activation is not None:
                activation.forward(part, y[block], None if derivative is None else derivative[block])
    kept = derivative if derivative is not None else y if activation is not None else None
    return y.reshape(x.shape), (x, centre, rest, inverse, weight, bias, kept)


def _backward(
    g: Array,
    residuals: Any,
    *,
    needs: Any,
    into: Any,
    mean: Array,  # noqa: ARG001
    variance: Array,  # noqa: ARG001
    count: Array,
    workers: Workers,
    eps: float,  # noqa: ARG001
    activation: ActivationFunction | None,
    reduce: Any,
) -> tuple[Any, Any, Any, Any]:
    x, centre, rest, inverse, weight, bias, kept = residuals
    rows, cotangent, spans = as_rows(x), as_rows(g), workers.spans(x.size // x.shape[-1])
    dx = np.empty_like(rows)
    # The cotangent behind the activation is also that of `residual`. If that is not needed, it is kept in dx until dx is written.
    through = cotangent if activation is None else np.empty_like(rows) if needs[3] else dx
    sums = np.zeros((2, *centre.shape))
    for i, span in enumerate(spans):
        for block in blocks(span, rows.shape[1]):
            part = cotangent[block]
            if activation is not None:
                part = through[block] = activation.backward(part, kept[block])
            d = np.subtract(rows[block], centre[i])
            sums[0, i] += active().bias_gradient(part)
            sums[1, i] += active().bias_gradient(np.multiply(d, part, out=d))
    sums[1] -= rest * sums[0]
    dweight = dbias = None
    if needs[1]:
        dweight = gradient_for(weight, into[1])
        each_gradient((sums[1] * inverse).astype(x.dtype), dweight)
    if needs[2]:
        dbias = gradient_for(bias, into[2])
        each_gradient(sums[0].astype(x.dtype), dbias)
    dpast = through.reshape(x.shape) if needs[3] else None
    if not needs[0]:
        return None, dweight, dbias, dpast
    if reduce is not None:
        sums = reduce(sums.reshape(-1)).reshape(sums.shape)
    derivative = sums[1] * inverse**2 / count
    level = (sums[0] / count - derivative * rest).astype(x.dtype)
    derivative = derivative.astype(x.dtype)
    scale = (inverse if weight is None else inverse * weight).astype(x.dtype)
    for i, span in enumerate(spans):
        for block in blocks(span, rows.shape[1]):
            part = through[block]
            d = np.subtract(rows[block], centre[i])
            np.multiply(d, derivative[i], out=d)
            np.subtract(part, d, out=d)
            np.subtract(d, level[i], out=d)
            np.multiply(d, scale[i], out=dx[block])
    return dx.reshape(x.shape), dweight, dbias, dpast


def _reference(
    x: Any,
    weight: Any,
    bias: Any,
    residual: Any,
    *,
    mean: Array,  # noqa: ARG001
    variance: Array,  # noqa: ARG001
    count: Array,  # noqa: ARG001
    workers: Workers,
    eps: float,
    activation: ActivationFunction | None,
    reduce: Any,
) -> Any:
    if workers is not ONE_WORKER:
        raise OneByOneError("the loss takes derivatives inside a model with batch norm")
    if reduce is not None:
        raise NoRuleError(
            "SyncBatchNorm inside nn.cross_worker_sum has first derivatives in reverse mode only. "
            "Use BatchNorm1d or BatchNorm2d where the loss contains derivatives."
        )
    axes = tuple(range(x.ndim - 1))
    d = x - np.mean(x, axis=axes)
    y = d / np.sqrt(np.mean(d * d, axis=axes) + eps)
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    y = y if residual is None else y + residual
    return y if activation is None else activation.reference(y)


batch_norm = Fused(_forward, _backward, name="batch_norm", reference=_reference, by_worker=True)


class _BatchNorm(Module):
    """What all batch norms have in common."""

    kinds: tuple[tuple[str, ...], ...]
    running_mean: Array
    running_var: Array
    num_batches_tracked: Array

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        activation: str | ActivationFunction | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if features < 1:
            raise LayerOptionError(f"{type(self).__name__}: features must be 1 or more. Got {features} instead.")
        self.features, self.eps, self.momentum = features, eps, momentum
        self.dtype = np.dtype(dtype)
        self.weight = Parameter(np.ones(features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(features, dtype)) if affine else None
        self.activation = activation_function(activation)
        self.tracks = track_running_stats
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(features, dtype), merge="mean")
            self.register_buffer("running_var", np.ones(features, dtype), merge="mean")
            self.register_buffer("num_batches_tracked", np.zeros((), np.int64), merge="last")

    def forward(self, x: Any, residual: Any = None) -> Any:
        """activation(norm(x) + residual), where `residual`, of x's shape, comes from a skip connection."""
        return self.with_activation(x, self.activation, residual)

    def with_activation(self, x: Any, activation: ActivationFunction | None, residual: Any = None) -> Any:
        """Run this layer with another activation instead of its own."""
        self._check(x)
        if residual is not None and (residual.shape != x.shape or residual.dtype != x.dtype):
            raise InputError(
                f"{self.where()}: expects a residual of the input's dtype and shape, {x.dtype} {x.shape}. "
                f"Got {residual.dtype} of shape {residual.shape} instead."
            )
        if not self.training and self.tracks:
            return self._by_running_statistics(x, activation, residual)
        reduce = self._reduce() if self.training else None
        workers = current_workers() or ONE_WORKER
        mean, variance, count = statistics(x.value if isinstance(x, Tensor) else x, workers, reduce)
        if np.any(count == 1) and self.training:
            raise InputError(
                f"{self.where()}: training needs more than one value per channel, but the input has shape {x.shape}. "
                "Give each virtual worker two samples or more (also of the last batch), use images that are larger here, or use "
                "nn.SyncBatchNorm, which takes its statistics over all virtual workers."
            )
        if self.training and self.tracks and not _recomputing.get():
            self._update_running_statistics(workers, mean, variance * (count / (count - 1)))
        return batch_norm(
            x,
            self.weight,
            self.bias,
            residual,
            mean=mean,
            variance=variance,
            count=count,
            workers=workers,
            eps=self.eps,
            activation=activation,
            reduce=reduce,
        )

    def _check(self, x: Any) -> None:
        ndim = getattr(x, "ndim", 0)
        fits = ndim in [2 + len(axes) for axes in self.kinds]
        if not fits or x.dtype != self.dtype or x.shape[-1] != self.features:
            refuse_image(self, x, self.kinds, self.features, self.dtype)

    def _reduce(self) -> Callable[[Array], Array] | None:
        return None

    def _update_running_statistics(self, workers: Workers, mean: Array, variance: Array) -> None:
        tracked = workers.buffer(self.num_batches_tracked)
        tracked += 1
        momentum = 1 / float(tracked[0]) if self.momentum is None else self.momentum
        for buffer, new in ((self.running_mean, mean), (self.running_var, variance)):
            running = workers.buffer(buffer)
            running[...] = (1 - momentum) * running + momentum * new

    @property
    def by_samples(self) -> bool:
        """Whether `batch_norm` is what runs, which knows of workers."""
        return self.training or not self.tracks

    def _by_running_statistics(self, x: Any, activation: ActivationFunction | None, residual: Any) -> Any:
        if current_workers() is not None:
            raise OneByOneError("a batch norm is in evaluation mode")
        scale: Any = np.reciprocal(np.sqrt(self.running_var + self.eps))
        y = (x - self.running_mean.copy()) * (scale if self.weight is None else scale * self.weight)
        y = y if self.bias is None else y + self.bias
        y = y if residual is None else y + residual
        if activation is None:
            return y if isinstance(y, Tensor) else Tensor(y)
        return activate(y, activation)

    def extra_repr(self) -> str:
        parts = [f"{self.features}", f"eps={self.eps}", f"momentum={self.momentum}"]
        if self.weight is None:
            parts.append("affine=False")
        if not self.tracks:
            parts.append("track_running_stats=False")
        return ", ".join(parts + ([] if self.activation is None else [self.activation.name]))


class BatchNorm1d(_BatchNorm):
    """Batch norm over samples, or over samples and steps.

    x: (batch, features) float or (batch, length, features) float; result: the same shape.

    Reference: Ioffe & Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift"
    (ICML 2015).

    Args:
        features: length of the last axis.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics. None: all batches weigh the same.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics for evaluation. Without them it uses those of the batch.
        activation: runs in the same pass over memory: "relu", ...; see `activations.ACTIVATIONS`.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if `features` is below 1 or the activation is unknown.
        InputError, InputTypeError: if an input has the wrong shape or dtype, or in training only one value per channel; the
            message names the layer's path.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.BatchNorm1d(1)(np.array([[0.0], [2.0]], np.float32)).numpy().round(3).tolist()
    [[-1.0], [1.0]]
    """

    kinds = ((), ("length",))
    rows_independent = _BatchNorm.by_samples


class BatchNorm2d(_BatchNorm):
    """Batch norm of images over samples and pixels.

    x: (batch, height, width, features) float; result: the same shape. Arguments and errors are those of `BatchNorm1d`.
    """

    kinds = (("height", "width"),)
    rows_independent = _BatchNorm.by_samples


class SyncBatchNorm(_BatchNorm):
    """Batch norm with the statistics of the batches of all virtual workers; see the top of this file.

    x: (batch, features), (batch, length, features), or (batch, height, width, features) float; result: the same shape. Arguments
    and errors are those of `BatchNorm1d`.
    """

    kinds = ((), ("length",), ("height", "width"))
    communicates_across_workers = True

    def _reduce(self) -> Callable[[Array], Array] | None:
        return sum_over_workers()
