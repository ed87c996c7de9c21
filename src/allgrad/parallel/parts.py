"""What a rank's virtual workers compute in a step: the parts of a batch, as one batch or worker by worker.

A rank runs neighbouring workers, so their parts are neighbouring rows of the global batch. `Parts` holds these rows as one batch,
and a table of how many belong to whom. A single worker's part is cut out when somebody asks for it. Parts that come one by one
(a user's own dict) are put together when they are needed as one batch, if they fit together.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.containers import flatten as flatten_containers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Parts", "SeparateParts"]


class Parts(Mapping[int, Any]):
    """worker -> its part of a batch, for the workers of one rank.

    Args:
        whole: nested arrays, with the workers' samples behind each other along the first axis.
        lengths: worker -> the number of its samples, in the order of the workers.

    Attributes:
        lengths: as given.

    >>> parts = Parts({"inputs": np.arange(5.0)}, {4: 3, 5: 2})
    >>> parts[4], parts[5]
    ({'inputs': array([0., 1., 2.])}, {'inputs': array([3., 4.])})
    """

    def __init__(self, whole: Any, lengths: Mapping[int, int]) -> None:
        self._whole, self.lengths = whole, dict(lengths)

    def __getitem__(self, worker: int) -> Any:
        length = self.lengths[worker]
        if len(self.lengths) == 1:
            return self._whole
        stops = dict(zip(self.lengths, accumulate(self.lengths.values()), strict=True))
        arrays, build = flatten_containers(self._whole)
        return build([a[stops[worker] - length : stops[worker]] for a in arrays])

    def __iter__(self) -> Iterator[int]:
        return iter(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def whole(self) -> Any:
        """The parts of all workers as one part; None if they do not fit together, or have no sample."""
        return self._whole if any(self.lengths.values()) else None


class SeparateParts(Parts):
    """Parts that came one by one.

    Args:
        given: worker -> its part; None or a part of length 0 is an empty worker.
    """

    def __init__(self, given: Mapping[int, Any]) -> None:
        self._given = given
        self._flat = {worker: flatten_containers(given[worker]) for worker in sorted(given)}
        super().__init__(None, {worker: samples_of(arrays) for worker, (arrays, _) in self._flat.items()})

    def __getitem__(self, worker: int) -> Any:
        return self._given[worker]

    def whole(self) -> Any:
        found = [self._flat[worker] for worker, length in self.lengths.items() if length]
        if len({len(arrays) for arrays, _ in found}) != 1:
            return None
        samples, whole = sum(self.lengths.values()), []
        for column in zip(*[arrays for arrays, _ in found], strict=True):
            if {*map(type, column)} != {np.ndarray}:
                return None
            try:
                array = np.concatenate(column, dtype=column[0].dtype, casting="no")
            except (TypeError, ValueError):  # their dtypes, or the shapes of their samples, differ
                return None
            if len(array) != samples:  # no array is longer than its part, so all are as long
                return None
            array.setflags(write=False)  # so that the tape need not copy it
            whole.append(array)
        return found[0][1](whole)


def samples_of(arrays: Sequence[Any]) -> int:
    """How many samples a part of a batch has, given its arrays: their length, or 0 without arrays.

    >>> samples_of([np.zeros((3, 2)), np.zeros(3)]), samples_of([])
    (3, 0)
    """
    samples = 0
    for a in arrays:
        length = len(a) if getattr(a, "ndim", None) or np.ndim(a) else 1
        if length > samples:
            samples = length
    return samples
