"""Softmax and cross-entropy as one operation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from allgrad import kernels
from allgrad.autodiff import Fused, Tensor
from allgrad.nn.batched_workers import per_row, worker_sums
from allgrad.nn.checks import check_range
from allgrad.nn.errors import InputError, InputTypeError, LayerOptionError
from allgrad.nn.losses import Count, Loss, same_shapes
from allgrad.nn.softmax import log_softmax_reference

Array = np.ndarray[Any, Any]
_SIGNED, _UNSIGNED = np.dtype(np.int64), np.dtype(np.uint64)


def _labels_forward(
    logits: Array, *, labels: Array, ignore_index: int, label_smoothing: float, scale: float
) -> tuple[Array, Any]:
    losses, probabilities = kernels.active().cross_entropy_forward(
        logits, labels, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    return worker_sums(losses, scale), probabilities


def _labels_backward(
    g: Array,
    probabilities: Array,
    *,
    needs: Any,  # noqa: ARG001
    labels: Array,
    ignore_index: int,
    label_smoothing: float,
    scale: float,
) -> tuple[Array]:
    gradient = kernels.active().cross_entropy_backward(
        per_row(g, scale, len(labels)),
        probabilities,
        labels,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    return (gradient,)


def _labels_reference(logits: Any, *, labels: Array, ignore_index: int, label_smoothing: float, scale: float) -> Any:
    counted = labels != ignore_index
    classes = logits.shape[1]
    targets = np.full(logits.shape, label_smoothing / classes, logits.dtype)
    targets[np.arange(len(labels)), np.where(counted, labels, 0)] += logits.dtype.type(1 - label_smoothing)
    targets *= counted[:, None]
    targets.flags.writeable = False
    return -np.sum(log_softmax_reference(logits) * targets) * scale


_with_labels = Fused(_labels_forward, _labels_backward, name="cross_entropy", reference=_labels_reference)


def _soft_forward(logits: Array, targets: Array) -> tuple[Array, Any]:
    losses, probabilities = kernels.active().soft_cross_entropy_forward(logits, targets)
    return worker_sums(losses), (logits, probabilities, targets)


def _soft_backward(g: Array, residuals: Any, *, needs: Any) -> tuple[Any, Any]:
    logits, probabilities, targets = residuals
    scale = per_row(g, 1.0, len(targets))
    d = kernels.active().soft_cross_entropy_backward(scale, probabilities, targets) if needs[0] else None
    scales = np.asarray(-scale, targets.dtype)[..., None]
    return d, log_softmax_reference(logits) * scales if needs[1] else None


_with_soft_labels = Fused(
    _soft_forward,
    _soft_backward,
    name="soft_cross_entropy",
    reference=lambda logits, targets: -np.sum(log_softmax_reference(logits) * targets),
)


class CrossEntropyLoss(Loss):
    """The mean cross-entropy of logits with labels or with probabilities.

    prediction (logits): (..., classes) float; target: labels (...) int, or probabilities (..., classes) float; result: () float.
    With smoothing e, a label becomes (1 - e) on its class plus e / classes on each class.

    Reference for the smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (CVPR 2016).

    Args:
        ignore_index: a label that does not count.
        label_smoothing: e, from 0 to 1.

    Raises:
        LayerOptionError: if `label_smoothing` is out of range.
        InputError, InputTypeError: if shapes or dtypes do not fit.
        IndexRangeError: if a label is not a class.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> float(nn.CrossEntropyLoss()(np.zeros((2, 4)), np.array([1, 3])).value).hex() == np.log(4.0).hex()
    True
    """

    rows_independent = True

    def __init__(self, *, ignore_index: int = -100, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing <= 1:
            raise LayerOptionError(
                f"CrossEntropyLoss: label_smoothing must be in [0, 1]. Got {label_smoothing!r} instead."
            )
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, prediction: Any, target: Any) -> Any:
        """The mean over the rows that are not ignored; 0 if all are."""
        if _is_soft(target):
            return super().forward(prediction, target)
        labels, count = self._labels(prediction, target)
        return self._sum(prediction, labels, 1 / count if count else 0.0)

    def terms(self, prediction: Any, target: Any) -> tuple[Any, Count]:
        if not _is_soft(target):
            labels, count = self._labels(prediction, target)
            return self._sum(prediction, labels, 1.0), count
        same_shapes(self, prediction, target)
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / prediction.shape[-1]
        rows = _rows(prediction)
        return _with_soft_labels(rows, _rows(target)), rows.shape[0]

    def _sum(self, prediction: Any, labels: Array, scale: float) -> Any:
        """`scale` times the sum over all rows."""
        return _with_labels(
            _rows(prediction), labels=labels, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing,
            scale=scale,
        )  # fmt: skip

    def _labels(self, prediction: Any, target: Any) -> tuple[Array, int]:
        """The labels as a contiguous vector of int64, each a class or ignored, and how many count."""
        given = target.value if isinstance(target, Tensor) else np.asarray(target)
        if given.dtype.kind not in "iu":
            raise InputTypeError(
                f"{self.where()}: labels must be integers, or probabilities of the logits' dtype. Got {given.dtype}."
            )
        shape = prediction.shape
        if given.shape != shape[:-1]:
            raise InputError(
                f"{self.where()}: expects logits (..., classes) and labels (...), or probabilities of the logits' shape. "
                f"Got logits {shape} and labels {given.dtype} {given.shape} instead."
            )
        labels, count, classes = np.ascontiguousarray(given).reshape(-1), given.size, shape[-1]
        usual = labels.dtype == _SIGNED and not 0 <= self.ignore_index < classes
        # In one pass: a negative label is huge as an unsigned number. `argmax` takes a third of the time of `max`.
        if not (usual and count and (unsigned := labels.view(_UNSIGNED)).item(unsigned.argmax()) < classes):
            counted = labels[labels != self.ignore_index]
            check_range(self, counted, classes, "label", "classes")
            count, labels = counted.size, labels.astype(_SIGNED, copy=False)
        return labels, count

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}"


def _is_soft(target: Any) -> bool:
    return getattr(getattr(target, "dtype", None), "kind", "") == "f"


def _rows(x: Any) -> Any:
    return x if x.ndim == 2 else np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
