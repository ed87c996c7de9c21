"""What an evaluation reports beside the loss.

A metric is computed apart from the loss, from the model's outputs for one micro-batch after another:

- `names`: what it reports, for example ("rmse", "r2").
- `sums(outputs, batch)`: numbers or arrays of a fixed shape, by name, which add up over the samples. They are summed over
  the virtual workers by the fixed tree, so they have the same bits at any number of ranks.
- `results(sums)`: from the totals over the whole evaluation set to what is reported: numbers, or a table (a list of lists).

A metric that no sum can express (a ranking, say) sets `gathered = True`. Its `sums` then returns arrays with one row per
sample; every rank gets all rows, in the order of the virtual workers, and `results` sees them concatenated.

To add one: a class or function in any file, and `@register_metric("name", kinds=(...))`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from allgrad.data.datasets import IGNORE
from allgrad.data.preprocess import decode_values
from allgrad.kernels.portable_math import exp
from allgrad.train.config.registry import register_metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.data import DataInfo
    from allgrad.data.datasets import Batch

    Array = np.ndarray[Any, Any]
    Sums = Mapping[str, float | Array]

__all__ = [
    "AUC",
    "DEFAULTS",
    "F1",
    "R2",
    "Accuracy",
    "Confusion",
    "MeanAbsoluteError",
    "Metric",
    "RelativeL2",
    "RootMeanSquareError",
]

DEFAULTS = {"classes": ("accuracy",), "tokens": ("accuracy",), "values": ("rmse", "r2"), "points": ("relative_l2",)}
"""The metrics of each kind of data where the configuration names none."""


class Metric(Protocol):
    """See the top of this file."""

    names: tuple[str, ...]

    def sums(self, outputs: Array, batch: Batch) -> Sums: ...

    def results(self, sums: Sums) -> dict[str, Any]: ...


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
    """The area under the ROC curve: the probability that a sample of a class scores higher for it than one of another class.

    Computed from ranks, with ties at their mean rank (Mann & Whitney, 1947). Two classes: that of the second one, with the
    difference of the logits as the score. More: the mean over the classes of each against the rest, with its probability as the
    score (scikit-learn's `roc_auc_score(multi_class="ovr")`). NaN where a class does not occur, or nothing else does.

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
        if logits.shape[1] == 2:
            score = logits[:, 1:] - logits[:, :1]
        else:
            raised = exp(logits - logits.max(axis=1, keepdims=True))
            score = raised / raised.sum(axis=1, keepdims=True)
        return {"score": score, "target": np.asarray(batch["targets"], np.float64)}

    def results(self, sums: Sums) -> dict[str, float]:
        scores, targets = np.asarray(sums["score"]), np.asarray(sums["target"])
        classes = [1] if scores.shape[1] == 1 else range(scores.shape[1])
        areas = [self._area(score, targets == number) for score, number in zip(scores.T, classes, strict=True)]
        return {"auc": float(np.mean(areas))}

    @staticmethod
    def _area(score: Array, positive: Array) -> float:
        ones, zeros = int(np.count_nonzero(positive)), int(np.count_nonzero(~positive))
        if not ones or not zeros:
            return math.nan
        _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
        return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


class Confusion:
    """How often each class is predicted for each: row i, column j counts the samples of class i that are taken for class j.

    Example:
        >>> metric = Confusion(2)
        >>> logits, targets = np.eye(2)[[0, 1, 1]], np.array([0, 1, 0])
        >>> metric.results(metric.sums(logits, {"targets": targets}))
        {'confusion': [[1, 1], [0, 1]]}
    """

    names: ClassVar = ("confusion",)

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        pairs = batch["targets"] * self.classes + np.argmax(outputs, axis=-1)
        counts = np.bincount(pairs, minlength=self.classes**2).astype(np.float64)
        return {"counts": counts.reshape(self.classes, self.classes)}

    def results(self, sums: Sums) -> dict[str, Any]:
        return {"confusion": np.asarray(sums["counts"]).astype(int).tolist()}


class RootMeanSquareError:
    """The root of the mean squared error over all entries, in the units of the data.

    Args:
        target: how the data set scaled its targets, as `allgrad.data.preprocess.decode_values` takes it; None: not at all.
    """

    names: ClassVar = ("rmse",)

    def __init__(self, target: Mapping[str, Any] | None = None) -> None:
        self.target = target

    def errors(self, outputs: Array, batch: Batch) -> Array:
        """Prediction minus target, float64, in the units of the data."""
        if self.target is None:
            return np.asarray(outputs, np.float64) - batch["targets"].astype(np.float64)
        fitted = {"target": self.target}
        return decode_values(outputs, fitted) - decode_values(batch["targets"], fitted)

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        error = self.errors(outputs, batch)
        return {"squares": float(np.sum(error * error)), "count": float(error.size)}

    def results(self, sums: Sums) -> dict[str, float]:
        return {"rmse": math.sqrt(float(sums["squares"]) / float(sums["count"]))}


class MeanAbsoluteError(RootMeanSquareError):
    """The mean absolute error over all entries, in the units of the data."""

    names: ClassVar = ("mae",)

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        error = self.errors(outputs, batch)
        return {"absolute": float(np.sum(np.abs(error))), "count": float(error.size)}

    def results(self, sums: Sums) -> dict[str, float]:
        return {"mae": float(sums["absolute"]) / float(sums["count"])}


class R2:
    """The share of the variance that the model explains, of the targets as it is trained on them (after `transform`).

    NaN for targets that are all equal.
    """

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
    """The area under the ROC curve: of the second of two classes, or the mean over more classes of each against the rest."""
    if info.outputs < 2:
        raise ValueError(f"it is defined for 2 classes or more, and the data have {info.outputs}.")
    return AUC()


@register_metric("confusion", kinds=("classes",))
def confusion(info: DataInfo) -> Confusion:
    """The confusion matrix: a row for each true class, a column for each predicted one."""
    return Confusion(info.outputs)


@register_metric("rmse", kinds=("values", "points"))
def rmse(info: DataInfo) -> RootMeanSquareError:
    """The root mean squared error, in the units of the target."""
    return RootMeanSquareError(_target(info))


@register_metric("mae", kinds=("values", "points"))
def mae(info: DataInfo) -> MeanAbsoluteError:
    """The mean absolute error, in the units of the target."""
    return MeanAbsoluteError(_target(info))


def _target(info: DataInfo) -> dict[str, Any] | None:
    if "target_mean" not in info.extra:
        return None
    return {key: info.extra[f"target_{key}"] for key in ("mean", "scale", "transform")}


@register_metric("r2", kinds=("values",))
def r2(info: DataInfo) -> R2:  # noqa: ARG001
    """The share of the targets' variance that the model explains."""
    return R2()


@register_metric("relative_l2", kinds=("points",))
def relative_l2(info: DataInfo) -> RelativeL2:  # noqa: ARG001
    """The error's norm relative to the exact solution's."""
    return RelativeL2()
