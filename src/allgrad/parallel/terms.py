"""The terms of a loss: how they are counted, weighed and summed over all virtual workers.

The objective is the sum over terms of (sum over all workers) / (count over all workers). The counts are summed before
the first backward, because they scale each term's gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import nn
from allgrad.autodiff import Tensor
from allgrad.comm import tree_sum_later

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from allgrad.comm import World
    from allgrad.parallel.parts import Parts

Array = np.ndarray[Any, np.dtype[Any]]


class TermNames:
    """The names of a loss's terms, agreed on by all ranks at its first step: a rank may have only empty workers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._known: tuple[Any, list[str]] | None = None

    def of(self, loss: Callable[[Any], Any], counted: Collection[Collection[str]]) -> list[str]:
        """The names, given those that this rank's workers count. Another loss than before is asked for anew, on all ranks."""
        if self._known is None or self._known[0] is not loss:
            mine = sorted({name for names in counted for name in names})
            self._known = (loss, sorted({name for each in self.world.all_gather_json(mine) for name in each}))
        return self._known[1]


class Terms:
    """The terms of one step on this rank.

    Args:
        loss: as `DataParallel.step` takes it.
        parts: of this rank's workers.
        batch: all of them as one part, and its workers, if these run as one batch.
        names: of this replica.
        virtual_workers: the number of virtual workers of all ranks.
        step: the number of the step, for messages.
        groups: into how many groups of neighbouring workers all are divided. A worker's gradient is a mean over the samples of
            its group.

    Attributes:
        names: of the terms.
        sums: (this rank's workers, names) float64: the sum of each term of each worker, as far as workers have run.
    """

    def __init__(
        self,
        loss: Callable[[Any], Any],
        parts: Parts,
        batch: tuple[Any, nn.Workers] | None,
        *,
        names: TermNames,
        virtual_workers: int,
        step: int,
        groups: int,
    ) -> None:
        self.step, self._groups, self._group_size = step, groups, virtual_workers // groups
        self._places = {worker: place for place, worker in enumerate(parts)}
        self._counted, columns = _counts(loss, parts, batch)
        self.names = names.of(loss, self._counted) if hasattr(loss, "counts") else ["loss"]
        self.counts = np.zeros((len(parts), len(self.names)))
        for name, column in columns.items():
            self.counts[:, self.names.index(name)] = column
        self.sums = np.zeros(self.counts.shape)
        rows = self.counts
        if groups > 1:
            # One set of columns per group, zero for other groups' workers, so that each sum is a group's own.
            rows = np.zeros((len(parts), groups, len(self.names)))
            for row, worker, counts in zip(rows, parts, self.counts, strict=True):
                row[self._group_of(worker)] = counts
            rows = rows.reshape(len(parts), -1)
        self._fetch = tree_sum_later(names.world, rows, virtual_workers=virtual_workers)
        self._by_group: list[dict[str, float]] = []

    def _group_of(self, worker: int) -> int:
        return worker // self._group_size

    def _names_of(self, worker: int) -> Collection[str]:
        """The terms that this worker counts."""
        return self._counted[self._places[worker]]

    @property
    def denominators(self) -> dict[str, float]:
        """Each term's count over all workers. The first backward asks for it: the sum hides behind a forward."""
        return self._denominators_of(None)

    def _denominators_of(self, worker: int | None) -> dict[str, float]:
        """What the sums of a worker's terms are divided by for its gradient; None: those of all workers, for the loss."""
        if not self._by_group:
            table = self._fetch().reshape(self._groups, -1)
            if self._groups > 1:
                table = np.concatenate((table, table.sum(axis=0, keepdims=True)))
            self._by_group = [dict(zip(self.names, row, strict=True)) for row in table.tolist()]
            if not any(self._by_group[-1].values()):
                raise ValueError(f"step {self.step}: no worker has a sample; there is nothing to learn from.")
        return self._by_group[-1 if worker is None else self._group_of(worker)]

    def objective(self, worker: int, value: Any) -> tuple[Tensor | None, Any]:
        """What to run a worker's backward on, and with which cotangent, given what its loss returned."""
        return self._terms(worker, value) if isinstance(value, dict) else self._mean(worker, value)

    def take_batch(self, terms: dict[str, Any]) -> None:
        """Note the sums of this rank's workers, which ran as one batch: each term is (workers,).

        Raises:
            ValueError: these are not the terms that are counted.
        """
        for name, term in terms.items():
            self.sums[:, self.names.index(name)] = term.value

    def batch_objective(self, terms: dict[str, Any]) -> Tensor | None:
        """`objective` of workers that ran as one batch: (workers,)."""
        return self._weighted(terms, self.denominators)

    def _mean(self, worker: int, mean: Any) -> tuple[Tensor, Any]:
        if not isinstance(mean, Tensor) or mean.size != 1 or set(self._names_of(worker)) != {"loss"}:
            raise TypeError(
                "The loss must return a Tensor with a single number, the mean over the part's samples, or a dict of sums "
                f"by_worker with a method counts(part). Got {type(mean).__name__} of shape {np.shape(mean)} instead."
            )
        count = float(self.counts[self._places[worker], self.names.index("loss")])
        self._note(worker, {"loss": float(mean.item()) * count})
        return mean, np.full(mean.shape, count / self._denominators_of(worker)["loss"], mean.dtype)

    def _terms(self, worker: int, terms: dict[str, Any]) -> tuple[Tensor | None, None]:
        if sorted(terms) != sorted(self._names_of(worker)):
            raise TypeError(
                f"The loss returned the terms {sorted(terms)}, but its counts(part) names {sorted(self._names_of(worker))}."
            )
        wrong = [name for name, term in terms.items() if not isinstance(term, Tensor) or term.size != 1]
        if wrong:
            raise TypeError(
                f"The terms of a loss must be Tensors with a single number each, sums over what the term counts. Got "
                f"{type(terms[wrong[0]]).__name__} of shape {np.shape(terms[wrong[0]])} for {wrong[0]!r} instead."
            )
        self._note(worker, {name: float(term.item()) for name, term in terms.items()})
        return self._weighted(terms, self._denominators_of(worker)), None

    def _weighted(self, terms: dict[str, Any], denominators: Mapping[str, float]) -> Tensor | None:
        objective: Tensor | None = None
        for name, term in terms.items():
            if denominators[name]:
                scaled = term * term.dtype.type(1.0 / denominators[name])
                objective = scaled if objective is None else objective + scaled
        return objective

    def _note(self, worker: int, sums: dict[str, float]) -> None:
        self.sums[self._places[worker]] = [sums.get(name, 0.0) for name in self.names]  # others may have more

    def means(self, summed: list[float]) -> dict[str, float]:
        """Each term's mean, given the sums over all workers; a term of which nothing was counted is left out."""
        counts = self.denominators
        return {name: value / counts[name] for name, value in zip(self.names, summed, strict=True) if counts[name]}


def _counts(
    loss: Callable[[Any], Any], parts: Parts, batch: tuple[Any, nn.Workers] | None
) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
    """The terms that each worker counts, and the counts of all workers for each term.

    Asked about all workers as one part, a loss may answer with one count per worker. Otherwise it is asked about each worker.
    """
    counts_of, lengths = getattr(loss, "counts", None), parts.lengths
    if batch is not None and counts_of is not None:
        whole, workers = batch
        with nn.batched_workers(workers):
            by_worker = counts_of(whole)
        if all(np.shape(counts) == (len(parts),) for counts in by_worker.values()):
            return [by_worker] * len(parts), by_worker
    if counts_of is None:
        each = [{"loss": float(length)} if length else {} for length in lengths.values()]
    else:
        each = [counts_of(parts[worker]) if length else {} for worker, length in lengths.items()]
    names = {name for counts in each for name in counts}
    return each, {name: [counts.get(name, 0.0) for counts in each] for name in names}
