"""The training loop of the estimators: encoded rows in, a trained multilayer perceptron out, nothing on the disk.

One virtual worker, Adam with decoupled weight decay, a constant learning rate, and the order of the rows and all random numbers
from one seed: the same arguments give the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import comm, nn, no_grad, optim, parallel
from allgrad.data.random import permutation, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Network", "Rows", "Settings", "fit_network", "predicted"]

_BLOCK = 4096  # rows that are predicted at once


@dataclass(frozen=True)
class Network:
    """What a multilayer perceptron is built from."""

    sizes: tuple[int, ...]
    activation: str
    dropout: float

    def build(self, rng: Any = 0) -> nn.models.MLP:
        return nn.models.MLP(self.sizes, activation=self.activation, dropout=self.dropout, rng=rng)


@dataclass(frozen=True)
class Settings:
    """How it is trained; see the arguments of `allgrad.sklearn.Classifier`."""

    lr: float
    weight_decay: float
    batch_size: int
    epochs: int
    patience: int | None
    tolerance: float
    seed: int
    report: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Rows:
    """Encoded rows: inputs (rows, features) float32, targets (rows, outputs) float32, weights (rows,) float32."""

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]

    def take(self, chosen: NDArray[np.int64]) -> Rows:
        return Rows(self.inputs[chosen], self.targets[chosen], self.weights[chosen])

    def batch(self, chosen: NDArray[np.int64]) -> dict[str, Any]:
        return vars(self.take(chosen))


class _Objective:
    """The mean over the samples' weights of cross-entropy, or of squared error."""

    def __init__(self, model: nn.Module, *, classes: bool) -> None:
        self.model, self.classes = model, classes
        self._cross_entropy = nn.CrossEntropyLoss()

    def counts(self, rows: dict[str, Any]) -> dict[str, float]:
        return {"loss": float(rows["weights"].sum(dtype=np.float64))}

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        outputs, weights = self.model(rows["inputs"]), rows["weights"][:, None]
        if self.classes:
            return {"loss": self._cross_entropy.terms(outputs, rows["targets"] * weights)[0]}
        error = outputs - rows["targets"]
        return {"loss": np.sum(error * error * weights)}


def fit_network(
    network: Network, training: Rows, held_out: Rows | None, settings: Settings, *, classes: bool
) -> tuple[nn.models.MLP, list[float], list[float]]:
    """Train.

    Args:
        training: what is trained on.
        held_out: what decides when to stop; the best weights on it are kept. None: all epochs are run.
        classes: whether targets are shares of classes (cross-entropy) or standardised values (squared error).

    Returns:
        The model in evaluation mode, and the loss of each epoch on the training rows and on the held-out ones.
    """
    model = network.build(stream(settings.seed, path="model", use="initial weights"))
    replica = parallel.DataParallel(model, comm.World(), virtual_workers=1, seed=settings.seed)
    optimizer = optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    objective = _Objective(model, classes=classes)
    losses: list[float] = []
    scores: list[float] = []
    best, kept, step = math.inf, model.state_dict(), 0
    for epoch in range(settings.epochs):
        order = permutation(len(training.inputs), settings.seed, epoch)
        total = count = 0.0
        for start in range(0, len(order), settings.batch_size):
            batch = training.batch(order[start : start + settings.batch_size])
            result = replica.step(objective, {0: batch}, step)
            optimizer.step()
            weight = objective.counts(batch)["loss"]
            total, count, step = total + result.loss * weight, count + weight, step + 1
        losses.append(total / count)
        if held_out is not None:
            scores.append(_loss(objective, held_out))
            if scores[-1] < best - settings.tolerance:
                best, kept = scores[-1], model.state_dict()
                best_epoch = epoch
        if settings.report is not None:
            shown = f", held-out loss {scores[-1]:.4f}" if scores else ""
            settings.report(f"epoch {epoch + 1}/{settings.epochs}: loss {losses[-1]:.4f}{shown}")
        if (
            held_out is not None
            and settings.patience is not None
            and scores
            and epoch - best_epoch >= settings.patience
        ):
            break
    trained = network.build()
    trained.load_state_dict(model.state_dict() if held_out is None else kept)
    trained.eval()
    return trained, losses, scores


def predicted(model: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The model's outputs for encoded rows, float64."""
    with no_grad():
        blocks = [model(inputs[start : start + _BLOCK]).numpy() for start in range(0, max(len(inputs), 1), _BLOCK)]
    return np.concatenate(blocks).astype(np.float64)


def _loss(objective: _Objective, rows: Rows) -> float:
    model = objective.model
    model.eval()
    with no_grad():
        batches = [
            rows.batch(np.arange(s, min(s + _BLOCK, len(rows.inputs)))) for s in range(0, len(rows.inputs), _BLOCK)
        ]
        total = sum(float(objective(batch)["loss"].item()) for batch in batches)
    model.train()
    return total / float(rows.weights.sum(dtype=np.float64))
