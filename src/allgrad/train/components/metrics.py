"""What an evaluation reports beside the loss.

A metric is computed apart from the loss, from the model's outputs for one micro-batch after another:

- `names`: what it reports, for example ("rmse", "r2").
- `sums(outputs, batch)`: numbers or arrays of a fixed shape, by name, which add up over the samples. They are summed over
  the virtual workers by the fixed tree, so they have the same bits at any number of ranks.
- `results(sums)`: from the totals over the whole evaluation set to the reported numbers.

A metric that no sum can express (a ranking, say) sets `gathered = True`. Its `sums` then returns arrays with one row per
sample; every rank gets all rows, in the order of the virtual workers, and `results` sees them concatenated.

To add one: a class or function in any file, and `@register_metric("name", kinds=(...))`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from allgrad.data.datasets import IGNORE
from allgrad.train.config.registry import register_metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.data import DataInfo
    from allgrad.data.datasets import Batch

    Array = np.ndarray[Any, Any]
    Sums = Mapping[str, float | Array]

__all__ = ["AUC", "DEFAULTS", "F1", "R2", "Accuracy", "Metric", "RelativeL2", "RootMeanSquareError"]

DEFAULTS = {"classes": ("accuracy",), "tokens": ("accuracy",), "values": ("rmse", "r2"), "points": ("relative_l2",)}
"""The metrics of each kind of data where the configuration names none."""


class Metric(Protocol):
    """See the top of this file."""

    names: tuple[str, ...]

    def sums(self, outputs: Array, batch: Batch) -> Sums: ...

    def results(self, sums: Sums) -> dict[str, float]: ...


class Accuracy:
    """The share of targets whose class or token has the largest logit; ignored targets do not count.

    Example:
        >>> logits, targets = np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1])
        >>> metric = Accuracy()
        >>> metric.results(metric.sums(logits, {"targets": targets}))
        {'accuracy': 0.5}
    """

    names: ClassVar = ("accuracy",)

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        targets = batch["targets"]
        counted = targets != IGNORE
        right = (np.argmax(outputs, axis=-1) == targets) & counted
        return {"right": float(np.count_nonzero(right)), "count": float(np.count_nonzero(counted))}

    def results(self, sums: Sums) -> dict[str, float]:
        return {"accuracy": float(sums["right"]) / float(sums["count"])}


class F1:
    """The mean over the classes of 2 TP / (2 TP + FP + FN); a class that neither occurs nor is predicted counts as 0.

    The macro average of scikit-learn's `f1_score(average="macro", zero_division=0)`.

    Args:
        classes: how many classes there are.

    Example:
        >>> metric = F1(2)
        >>> logits, targets = np.eye(2)[[0, 1, 1]], np.array([0, 1, 0])
        >>> round(metric.results(metric.sums(logits, {"targets": targets}))["f1"], 4)
        0.6667
    """

    names: ClassVar = ("f1",)

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        targets = batch["targets"].reshape(-1)
        predicted = np.argmax(outputs, axis=-1).reshape(-1)[targets != IGNORE]
        targets = targets[targets != IGNORE]

        def count(classes: Array) -> Array:
            return np.bincount(classes, minlength=self.classes).astype(np.float64)

        return {"right": count(targets[predicted == targets]), "predicted": count(predicted), "there": count(targets)}

    def results(self, sums: Sums) -> dict[str, float]:
        either = np.asarray(sums["predicted"]) + np.asarray(sums["there"])
        scores = 2 * np.asarray(sums["right"]) / np.maximum(either, 1)
        return {"f1": float(np.mean(scores))}


class AUC:
    """The area under the ROC curve of two classes: the probability that a sample of class 1 scores higher than one of 0.

    Computed from ranks, with ties at their mean rank (Mann & Whitney, 1947). The score is the difference of the two
    logits. NaN where only one class occurs.

    Example:
        >>> metric = AUC()
        >>> logits, targets = np.array([[0, 1.0], [0, 2.0], [0, 3.0]]), np.array([0, 1, 1])
        >>> metric.results(metric.sums(logits, {"targets": targets}))
        {'auc': 1.0}
    """

    names: ClassVar = ("auc",)
    gathered = True

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        logits = np.asarray(outputs, np.float64)
        return {"score": logits[:, 1] - logits[:, 0], "target": np.asarray(batch["targets"], np.float64)}

    def results(self, sums: Sums) -> dict[str, float]:
        score, positive = np.asarray(sums["score"]), np.asarray(sums["target"]) == 1
        ones, zeros = int(np.count_nonzero(positive)), int(np.count_nonzero(~positive))
        if not ones or not zeros:
            return {"auc": math.nan}
        _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
        return {"auc": float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))}


class RootMeanSquareError:
    """The root of the mean squared error over all entries, in the units of the targets that the model is trained on."""

    names: ClassVar = ("rmse",)

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        error = np.asarray(outputs, np.float64) - batch["targets"].astype(np.float64)
        return {"squares": float(np.sum(error * error)), "count": float(error.size)}

    def results(self, sums: Sums) -> dict[str, float]:
        return {"rmse": math.sqrt(float(sums["squares"]) / float(sums["count"]))}


class R2:
    """The share of the targets' variance that the model explains; NaN for targets that are all equal."""

    names: ClassVar = ("r2",)

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        targets = batch["targets"].astype(np.float64)
        error = np.asarray(outputs, np.float64) - targets
        return {
            "squares": float(np.sum(error * error)),
            "targets": float(np.sum(targets)),
            "target_squares": float(np.sum(targets * targets)),
            "count": float(targets.size),
        }

    def results(self, sums: Sums) -> dict[str, float]:
        squares, targets = float(sums["squares"]), float(sums["targets"])
        spread = float(sums["target_squares"]) - targets**2 / float(sums["count"])
        return {"r2": 1 - squares / spread if spread > 0 else math.nan}


class RelativeL2:
    """The norm of the error divided by the norm of the exact values, over the whole evaluation set."""

    names: ClassVar = ("relative_l2",)

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        exact = batch["targets"].astype(np.float64)
        error = np.asarray(outputs, np.float64) - exact
        return {"squares": float(np.sum(error * error)), "exact": float(np.sum(exact * exact))}

    def results(self, sums: Sums) -> dict[str, float]:
        return {"relative_l2": math.sqrt(float(sums["squares"]) / float(sums["exact"]))}


@register_metric("accuracy", kinds=("classes", "tokens"))
def accuracy(info: DataInfo) -> Accuracy:  # noqa: ARG001 (what every metric is given)
    """The share of targets that the model predicts."""
    return Accuracy()


@register_metric("f1", kinds=("classes",))
def f1(info: DataInfo) -> F1:
    """The F1 score, averaged over the classes."""
    return F1(info.outputs)


@register_metric("auc", kinds=("classes",))
def auc(info: DataInfo) -> AUC:
    """The area under the ROC curve; for two classes."""
    if info.outputs != 2:
        raise ValueError(f"it is defined for 2 classes, and the data have {info.outputs}.")
    return AUC()


@register_metric("rmse", kinds=("values", "points"))
def rmse(info: DataInfo) -> RootMeanSquareError:  # noqa: ARG001
    """The root mean squared error."""
    return RootMeanSquareError()


@register_metric("r2", kinds=("values",))
def r2(info: DataInfo) -> R2:  # noqa: ARG001
    """The share of the targets' variance that the model explains."""
    return R2()


@register_metric("relative_l2", kinds=("points",))
def relative_l2(info: DataInfo) -> RelativeL2:  # noqa: ARG001
    """The error's norm relative to the exact solution's."""
    return RelativeL2()
