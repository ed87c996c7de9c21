"""What a run minimises: sums and counts, which add up over virtual workers.

A training loss answers these questions about a micro-batch (a dict of arrays, see `data/datasets.py`):

- `counts(batch)`: for each named term, how much it counts there; known from the batch without the model. Where several virtual
  workers run as one batch, it may answer with one number per worker (`nn.batch_count`); otherwise it is asked about each of them.
- `sums(model, batch)`: for each term the sum, a scalar Tensor. The objective is the sum over the terms of sum / count, both
  taken over the global batch (`parallel/data_parallel.py`).
- `evaluate(outputs, batch)`: (sum, count) of the loss on held-out data, given the model's outputs there. The ratio of the
  totals is reported as "loss"; everything else that is reported is a metric (metrics.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field

import allgrad as ag
from allgrad import nn
from allgrad.data.datasets import IGNORE
from allgrad.data.errors import listed
from allgrad.data.points import BOUNDARY, EXACT, INITIAL, INTERIOR
from allgrad.train.config.registry import register_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.data import DataInfo
    from allgrad.data.datasets import Batch

    Model = Callable[[Any], Any]

__all__ = ["CrossEntropy", "HeatEquation", "Objective", "Regression", "TrainLoss"]


class TrainLoss(Protocol):
    """See the top of this file."""

    def counts(self, batch: Batch) -> dict[str, Any]: ...

    def sums(self, model: Model, batch: Batch) -> dict[str, Any]: ...

    def evaluate(self, outputs: Any, batch: Batch) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Objective:
    """A training loss bound to the model, as `DataParallel.step` takes it."""

    loss: TrainLoss
    model: Model

    @property
    def rows_independent(self) -> bool:
        """Whether the loss takes the samples of several virtual workers as one batch, and gives one sum per worker."""
        return nn.declares_rows_independent(self.loss)

    @property
    def counts(self) -> Callable[[Batch], dict[str, Any]]:
        """The loss's own method."""
        return self.loss.counts

    def __call__(self, batch: Batch) -> dict[str, Any]:
        return self.loss.sums(self.model, batch)


class CrossEntropy:
    """Classes and tokens: the mean negative log-likelihood in nats over all targets except ignored ones.

    With weights w of the classes, a sample of class y counts w[y] times in training, and the mean is over the sum of these. With
    smoothing e, its target is (1 - e) w[y] on its class plus e / classes w on each class, as in PyTorch. The loss that is
    reported on held-out data has neither.
    """

    rows_independent = True

    def __init__(self, label_smoothing: float, weights: np.ndarray | None = None) -> None:
        self._train = nn.CrossEntropyLoss(ignore_index=IGNORE, label_smoothing=label_smoothing)
        self._plain = nn.CrossEntropyLoss(ignore_index=IGNORE)
        self._weights, self._smoothing = weights, label_smoothing

    def counts(self, batch: Batch) -> dict[str, Any]:
        targets = batch["targets"]
        if self._weights is None:
            return {"loss": nn.batch_count(targets != IGNORE)}
        return {"loss": float(self._weights[targets[targets != IGNORE]].sum())}

    def sums(self, model: Model, batch: Batch) -> dict[str, Any]:
        outputs = model(batch["inputs"])
        if self._weights is None:
            return {"loss": self._train.terms(outputs, batch["targets"])[0]}
        return {"loss": self._plain.terms(outputs, self._weighted(batch["targets"], outputs.dtype))[0]}

    def _weighted(self, labels: np.ndarray, dtype: Any) -> np.ndarray:
        """The targets (samples, classes), each row as large as its sample counts; 0 for an ignored one."""
        weights = self._weights
        assert weights is not None
        counted = np.flatnonzero(labels != IGNORE)
        targets = np.zeros((len(labels), len(weights)))
        targets[counted] = weights * (self._smoothing / len(weights))
        targets[counted, labels[counted]] += (1 - self._smoothing) * weights[labels[counted]]
        return targets.astype(dtype)

    def evaluate(self, outputs: Any, batch: Batch) -> tuple[float, float]:
        total, count = self._plain.terms(outputs, batch["targets"])
        return float(total.item()), float(count)


class Regression:
    """Values: the mean over all entries of an entrywise loss, on the targets as the data set scaled them."""

    def __init__(self, loss: nn.Loss) -> None:
        self._loss = loss

    @property
    def rows_independent(self) -> bool:
        return nn.declares_rows_independent(self._loss)

    def counts(self, batch: Batch) -> dict[str, Any]:
        return {"loss": nn.batch_size(batch["targets"])}

    def sums(self, model: Model, batch: Batch) -> dict[str, Any]:
        return {"loss": self._loss.terms(model(batch["inputs"]), batch["targets"])[0]}

    def evaluate(self, outputs: Any, batch: Batch) -> tuple[float, float]:
        total, _ = self._loss.terms(outputs, batch["targets"])
        return float(total.item()), float(batch["targets"].size)


class HeatEquation:
    """The physics-informed loss of u_t = alpha u_xx: three terms, each the mean square of what should be 0.

    `interior`: the residual u_t - alpha u_xx of the network at points inside, by forward-mode derivatives through the
    network, which the reverse pass then differentiates; `boundary` and `initial`: the network against its known values,
    weighted. Raissi, Perdikaris & Karniadakis, "Physics-informed neural networks", 2019. On held-out data: the mean square
    error against the exact solution.
    """

    rows_independent = True

    def __init__(self, alpha: float, boundary_weight: float, initial_weight: float) -> None:
        self.alpha = alpha
        self.weights = {"boundary": boundary_weight, "initial": initial_weight}

    def counts(self, batch: Batch) -> dict[str, Any]:
        numbers = {"interior": INTERIOR, "boundary": BOUNDARY, "initial": INITIAL}
        return {name: nn.batch_count(batch["kind"] == number) for name, number in numbers.items()}

    def sums(self, model: Model, batch: Batch) -> dict[str, Any]:
        points, targets, kind = batch["inputs"], batch["targets"], batch["kind"]
        inside = kind == INTERIOR
        with nn.chosen_rows(inside):
            residual = self._residual(model, points[inside])
            sums = {"interior": nn.batch_sum(residual * residual)}
        for name, number in (("boundary", BOUNDARY), ("initial", INITIAL)):
            chosen = kind == number
            with nn.chosen_rows(chosen):
                error = model(points[chosen]) - targets[chosen]
                sums[name] = nn.batch_sum(error * error) * self.weights[name]
        return sums

    def _residual(self, model: Model, points: Any) -> Any:
        along_x = np.broadcast_to(np.array([1, 0], points.dtype), points.shape)
        along_t = np.broadcast_to(np.array([0, 1], points.dtype), points.shape)

        def u_x(p: Any) -> Any:
            return ag.jvp(model, (p,), (along_x,))[1]

        u_xx = ag.jvp(u_x, (points,), (along_x,))[1]
        u_t = ag.jvp(model, (points,), (along_t,))[1]
        return u_t - u_xx * points.dtype.type(self.alpha)

    def evaluate(self, outputs: Any, batch: Batch) -> tuple[float, float]:
        assert np.all(batch["kind"] == EXACT)
        error = outputs.numpy().astype(np.float64) - batch["targets"].astype(np.float64)
        return float(np.sum(error * error)), float(error.size)


@register_loss("cross_entropy", kinds=("classes", "tokens"))
def cross_entropy(
    info: DataInfo,
    *,
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    class_weights: dict[str, Annotated[float, Field(ge=0)]] | Literal["none", "balanced"] = "none",
) -> CrossEntropy:
    """Softmax and negative log-likelihood of class numbers or next tokens.

    Args:
        label_smoothing: probability that is spread over all classes rather than given to the target, in training.
        class_weights: how much a sample of each class counts in training: all the same (none), in inverse proportion to the
            number of its samples (balanced), or numbers by the name of the class; a class that is not named counts 1.
    """
    return CrossEntropy(label_smoothing, _class_weights(info, class_weights))


def _class_weights(info: DataInfo, chosen: dict[str, float] | str) -> np.ndarray | None:
    """The weight of each class; None where all are 1. Balanced: samples / (classes * samples of the class).

    Raises:
        ValueError: a class is unknown, or the data do not say how many samples each class has.
    """
    if chosen == "none":
        return None
    if isinstance(chosen, dict):
        names = [str(name) for name in info.extra.get("classes", range(info.outputs))]
        if unknown := [name for name in chosen if name not in names]:
            raise ValueError(f"class_weights names {listed(unknown)}. The classes are {listed(names)}.")
        return np.array([chosen.get(name, 1.0) for name in names])
    if "class_counts" not in info.extra:
        raise ValueError(
            "class_weights: balanced needs data with class labels that say how many samples each class has."
        )
    counts = np.array(info.extra["class_counts"], np.float64)
    return np.where(counts > 0, counts.sum() / (len(counts) * np.maximum(counts, 1)), 0.0)


@register_loss("mse", kinds=("values",))
def mse(info: DataInfo) -> Regression:  # noqa: ARG001
    """Mean squared error."""
    return Regression(nn.MSELoss())


@register_loss("l1", kinds=("values",))
def l1(info: DataInfo) -> Regression:  # noqa: ARG001
    """Mean absolute error."""
    return Regression(nn.L1Loss())


@register_loss("huber", kinds=("values",))
def huber(info: DataInfo, *, delta: Annotated[float, Field(gt=0)] = 1.0) -> Regression:  # noqa: ARG001
    """Squared for small errors, linear for large ones.

    Args:
        delta: size of the error, in the unit of the scaled targets, at which it becomes linear.
    """
    return Regression(nn.HuberLoss(delta))


@register_loss("heat_equation", kinds=("points",))
def heat_equation(
    info: DataInfo,
    *,
    boundary_weight: Annotated[float, Field(gt=0)] = 1.0,
    initial_weight: Annotated[float, Field(gt=0)] = 1.0,
) -> HeatEquation:
    """The residual of the heat equation, with its boundary and initial values.

    Args:
        boundary_weight: factor of the boundary's mean square error in the loss.
        initial_weight: factor of the initial values' mean square error in the loss.
    """
    return HeatEquation(info.extra["alpha"], boundary_weight, initial_weight)
