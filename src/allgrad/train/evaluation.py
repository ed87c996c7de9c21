"""Evaluation: every sample once, cut into the same V parts at any rank count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad import no_grad
from allgrad.comm import tree_sum
from allgrad.data.loader import worker_batches
from allgrad.data.sampler import evaluation_batches

if TYPE_CHECKING:
    from allgrad import nn
    from allgrad.comm import World
    from allgrad.data import Dataset
    from allgrad.train.components.losses import TrainLoss

__all__ = ["evaluate"]


def evaluate(
    model: nn.Module,
    loss: TrainLoss,
    dataset: Dataset,
    world: World,
    *,
    workers: range,
    virtual_workers: int,
    size: int,
) -> dict[str, float]:
    """The loss's metrics over a whole data set.

    Args:
        workers: this rank's virtual workers, of `virtual_workers`.
        size: samples in a global batch of the evaluation.

    A worker adds up its own sums batch by batch; the fixed tree adds the workers'. The model is left as it was found.
    """
    sums: dict[int, dict[str, float]] = {worker: {} for worker in workers}
    training = model.training
    model.eval()
    try:
        with no_grad():
            for indices in evaluation_batches(len(dataset), size):
                for worker, part in zip(
                    workers, worker_batches(dataset, indices, workers, virtual_workers, 0), strict=True
                ):
                    if len(next(iter(part.values()))):
                        for name, value in loss.evaluate(model, part).items():
                            sums[worker][name] = sums[worker].get(name, 0.0) + value
    finally:
        model.train(training)
    mine = sorted({name for each in sums.values() for name in each})
    names = sorted({name for each in world.all_gather_json(mine) for name in each})
    rows = np.array([[sums[worker].get(name, 0.0) for name in names] for worker in workers])
    return loss.metrics(dict(zip(names, tree_sum(world, rows, virtual_workers=virtual_workers).tolist(), strict=True)))
