"""Evaluation: every sample once, cut into the same V micro-batches at any rank count.

Each worker adds up its own sums, batch by batch; the fixed tree adds those of the workers. So the results have the same bits
at any number of ranks. The rows of gathered metrics are put together in the order of the workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import no_grad
from allgrad.comm import tree_sum
from allgrad.data.loader import read_share
from allgrad.data.sampler import evaluation_batches
from allgrad.parallel import Parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from allgrad import nn
    from allgrad.comm import World
    from allgrad.data import Dataset
    from allgrad.data.datasets import Batch
    from allgrad.train.components.losses import TrainLoss
    from allgrad.train.components.metrics import Metric

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Evaluator", "non_finite"]


@dataclass(frozen=True)
class Evaluator:
    """How a run is evaluated: its loss and its metrics.

    Attributes:
        loss: reported as "loss".
        metrics: what is reported beside it.

    Raises:
        ValueError: two metrics report the same name, or one reports "loss".
    """

    loss: TrainLoss
    metrics: Sequence[Metric]

    def __post_init__(self) -> None:
        names = self.names
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"Two metrics report the same name: {', '.join(sorted(twice))}.")

    @property
    def names(self) -> tuple[str, ...]:
        """What `run` reports."""
        return ("loss", *(name for metric in self.metrics for name in metric.names))

    def run(
        self,
        model: nn.Module,
        dataset: Dataset,
        world: World,
        *,
        workers: range,
        virtual_workers: int,
        size: int,
    ) -> dict[str, float]:
        """The loss and the metrics over a whole data set; the model is left as it was found.

        Args:
            model: takes a batch's "inputs".
            dataset: the held-out data.
            world: the ranks; all of them call this together.
            workers: this rank's virtual workers.
            virtual_workers: how many there are over all ranks.
            size: samples in a global batch of the evaluation.
        """
        tallies = {worker: _Tally() for worker in workers}
        training = model.training
        model.eval()
        try:
            with no_grad():
                for indices in evaluation_batches(len(dataset), size):
                    arrays, lengths = read_share(dataset, indices, workers, virtual_workers, 0)
                    parts = Parts(arrays, dict(zip(workers, lengths, strict=True)))
                    for worker, length in parts.lengths.items():
                        if length:
                            self._add(tallies[worker], model, parts[worker])
        finally:
            model.train(training)
        sums, rows = _over_all_workers(world, [tallies[w] for w in workers], virtual_workers)
        found = {"loss": float(sums["loss/sum"]) / float(sums["loss/count"])}
        for number, metric in enumerate(self.metrics):
            source = rows if getattr(metric, "gathered", False) else sums
            found |= metric.results(_named(source, f"{number}/"))
        return found

    def _add(self, tally: _Tally, model: nn.Module, batch: Batch) -> None:
        outputs = model(batch["inputs"])
        total, count = self.loss.evaluate(outputs, batch)
        tally.add({"loss/sum": total, "loss/count": count})
        values = outputs.numpy()
        for number, metric in enumerate(self.metrics):
            named = {f"{number}/{name}": value for name, value in metric.sums(values, batch).items()}
            if getattr(metric, "gathered", False):
                tally.append(named)
            else:
                tally.add(named)


class _Tally:
    """One worker's sums, and its rows for gathered metrics."""

    def __init__(self) -> None:
        self.sums: dict[str, Array] = {}
        self.rows: dict[str, list[Array]] = {}

    def add(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            array = np.asarray(value, np.float64)
            self.sums[name] = array if name not in self.sums else self.sums[name] + array

    def append(self, rows: Mapping[str, Any]) -> None:
        for name, value in rows.items():
            self.rows.setdefault(name, []).append(np.asarray(value, np.float64))


def _over_all_workers(
    world: World, tallies: Sequence[_Tally], virtual_workers: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The sums over all virtual workers, and the rows of all of them in order."""
    mine: dict[str, list[int]] = {}
    gathered: dict[str, list[int]] = {}
    for tally in tallies:
        mine |= {name: list(value.shape) for name, value in tally.sums.items()}
        gathered |= {name: list(rows[0].shape[1:]) for name, rows in tally.rows.items()}
    everyone = world.all_gather_json([mine, gathered])  # a rank may have empty workers only
    shapes = _merged(one for one, _ in everyone)
    vectors = [_packed(tally.sums, shapes) for tally in tallies]
    summed = tree_sum(world, np.stack(vectors), virtual_workers=virtual_workers)
    rows = {
        name: _gather_rows(world, [row for tally in tallies for row in tally.rows.get(name, [])], shape)
        for name, shape in _merged(one for _, one in everyone).items()
    }
    return _unpacked(summed, shapes), rows


def _merged(shapes: Iterable[Mapping[str, list[int]]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for each in shapes:
        for name, shape in each.items():
            if found.setdefault(name, tuple(shape)) != tuple(shape):
                raise ValueError(f"A metric's sums must have a fixed shape. Got {found[name]} and {tuple(shape)}.")
    return dict(sorted(found.items()))


def _packed(sums: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> Array:
    parts = [np.broadcast_to(sums.get(name, np.zeros(shape)), shape).reshape(-1) for name, shape in shapes.items()]
    return np.concatenate(parts) if parts else np.zeros(0)


def _unpacked(vector: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    found, start = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        found[name] = vector[start : start + size].reshape(shape)
        start += size
    return found


def _gather_rows(world: World, rows: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """All ranks' rows, one rank after another, which is the order of the workers."""
    mine = np.concatenate(rows) if rows else np.zeros((0, *shape))
    lengths = world.all_gather(np.array([len(mine)])).reshape(-1)
    padded = np.zeros((int(lengths.max()), *shape))
    padded[: len(mine)] = mine
    everyone = world.all_gather(padded)
    return np.concatenate([each[:length] for each, length in zip(everyone, lengths, strict=True)])


def _named(values: Mapping[str, Array], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): float(value) if value.ndim == 0 else value
        for name, value in values.items()
        if name.startswith(prefix)
    }


def non_finite(metrics: Mapping[str, Any]) -> list[str]:
    """The names of the metrics that are NaN or infinite; tables of counts are neither."""
    return [name for name, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)]
