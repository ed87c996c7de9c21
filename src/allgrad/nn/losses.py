"""Losses. Each is a sum and a count.

`loss(prediction, target)` is the mean, a scalar Tensor. `loss.terms(prediction, target)` returns (sum, count). The trainer adds
both over virtual workers before it divides, so unequal counts (ignored labels, a short last batch) get the right weights. For a
batch of several virtual workers (`batched_workers.py`), the sum of a loss that is `rows_independent` is one number per worker.

All losses except cross-entropy (`cross_entropy.py`) are compositions of NumPy functions, so they have derivatives of every order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff import Tensor
from allgrad.nn.activations import softplus_reference
from allgrad.nn.batched_workers import batch_sum
from allgrad.nn.checks import check_range
from allgrad.nn.errors import InputError, InputTypeError, LayerOptionError
from allgrad.nn.module import Module
from allgrad.nn.primitives import log

Array = np.ndarray[Any, Any]
Count = int | float


class Loss(Module):
    """Base class of losses. A subclass defines `terms`."""

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        """The sum, a scalar Tensor, and the number by which it is divided for the mean."""
        raise NotImplementedError(f"{type(self).__name__} has no terms() method. Define one.")

    def forward(self, prediction: Any, target: Any) -> Any:
        total, count = self.terms(prediction, target)
        return total * (1 / count if count else 0.0)


def same_shapes(loss: Module, prediction: Any, target: Any) -> None:
    """Raise unless both are float arrays of one shape. Broadcasting here is nearly always a mistake."""
    given = [x if isinstance(x, (Tensor, np.ndarray)) else np.asarray(x) for x in (prediction, target)]
    if given[0].shape != given[1].shape:
        raise InputError(
            f"{loss.where()}: prediction and target must have the same shape. "
            f"Got {given[0].shape} and {given[1].shape} instead."
        )
    for what, x in zip(("prediction", "target"), given, strict=True):
        if x.dtype.kind != "f":
            raise InputTypeError(
                f"{loss.where()}: the {what} must be a float array. Got {x.dtype} of shape {x.shape} instead."
            )


class MSELoss(Loss):
    """The mean of (prediction - target)^2 over all entries.

    prediction, target: any shape, the same for both, float; result: () float.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.MSELoss()(np.array([1.0, 2.0]), np.array([1.0, 4.0])).item()
    2.0
    """

    rows_independent = True

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        same_shapes(self, prediction, target)
        difference = _tensor(prediction - target)
        return batch_sum(difference * difference), difference.size


class L1Loss(Loss):
    """The mean of |prediction - target| over all entries; shapes as for `MSELoss`."""

    rows_independent = True

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        same_shapes(self, prediction, target)
        difference = _tensor(prediction - target)
        return batch_sum(np.abs(difference)), difference.size


class HuberLoss(Loss):
    """The mean of d^2 / 2 where |d| <= delta, else of delta (|d| - delta / 2), with d = prediction - target.

    Shapes as for `MSELoss`.

    Reference: Huber, "Robust Estimation of a Location Parameter" (Annals of Mathematical Statistics 35, 1964).

    Args:
        delta: where the parabola becomes a straight line, above 0.

    Raises:
        LayerOptionError: if delta is not above 0.
    """

    rows_independent = True

    def __init__(self, delta: float = 1.0) -> None:
        if delta <= 0:
            raise LayerOptionError(f"HuberLoss: delta must be above 0. Got {delta!r} instead.")
        self.delta = delta

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        same_shapes(self, prediction, target)
        d = _tensor(prediction - target)
        size = np.abs(d)
        entries = np.where(size <= self.delta, d * d * 0.5, (size - 0.5 * self.delta) * self.delta)
        return batch_sum(entries), d.size

    def extra_repr(self) -> str:
        return f"delta={self.delta}"


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits x and probabilities t: the mean of softplus(x) - t x over all entries.

    prediction (logits), target (probabilities): any shape, the same for both, float; result: () float.

    Args:
        positive_weight: factor of the loss of positive examples (PyTorch's pos_weight): a number, or one number per column.
    """

    def __init__(self, positive_weight: Any = None) -> None:
        self.positive_weight = None if positive_weight is None else np.array(positive_weight, np.float64)

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        same_shapes(self, prediction, target)
        x = _tensor(prediction)
        if self.positive_weight is None:
            return np.sum(softplus_reference(x) - x * target), x.size
        weight = target * (self.positive_weight.astype(x.dtype) - 1) + 1
        return np.sum((1 - target) * x + weight * softplus_reference(-x)), x.size


class NLLLoss(Loss):
    """The mean of -prediction[label] over the labels that count.

    prediction (log-probabilities): (..., classes) float; target (labels): (...) int; result: () float.

    Args:
        ignore_index: a label that does not count.

    Raises:
        InputError: if the shapes do not fit, or labels are not integers.
        IndexRangeError: if a label is not a class.
    """

    def __init__(self, *, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        labels = target.value if isinstance(target, Tensor) else np.asarray(target)
        if labels.dtype.kind not in "iu" or labels.shape != prediction.shape[:-1]:
            raise InputError(
                f"{self.where()}: expects log-probabilities (..., classes) and integer labels (...). "
                f"Got {prediction.shape} and labels {labels.dtype} {labels.shape} instead."
            )
        classes = prediction.shape[-1]
        labels = labels.reshape(-1)
        counted = np.flatnonzero(labels != self.ignore_index)
        chosen = labels[counted]
        check_range(self, chosen, classes, "label", "classes")
        rows = np.reshape(_tensor(prediction), (-1, classes))
        return -np.sum(rows[counted, chosen]), int(counted.size)


class KLDivLoss(Loss):
    """The Kullback-Leibler divergence of x from t: the sum of t (log t - x).

    prediction (log-probabilities x), target (probabilities t): (batch, ...), the same shape for both, float; result: () float.
    The mean is over the first axis only (PyTorch's reduction="batchmean"), which is the definition of the divergence.
    """

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        same_shapes(self, prediction, target)
        x = _tensor(prediction)
        safe = np.where(target > 0, target, np.ones((), x.dtype))  # 0 log 0 = 0
        return np.sum(target * (log(safe) - x)), x.shape[0]


def _tensor(x: Any) -> Any:
    """x as a Tensor, so that the loss of plain arrays is a Tensor too."""
    return x if isinstance(x, Tensor) else Tensor(np.asarray(x))
