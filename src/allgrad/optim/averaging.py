"""Exponential moving average of the weights."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels.blocks import scratch, spans
from allgrad.memory import Arena

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from allgrad.memory import FlatParameters


class EMA:
    """A second set of weights that follows the trained one: average += (1 - decay) (weights - average).

    Evaluating with the average usually generalises better than with the last weights (Polyak & Juditsky 1992; the
    exponential form as in Tarvainen & Valpola 2017). Only parameters are averaged: buffers, such as
    batch norm's running statistics, are averages already.

    Args:
        flat: the parameters (`optimizer.flat`).
        decay: between 0 and 1.
        ramp: use min(decay, (1 + t) / (10 + t)) at update t, so that the first weights are soon forgotten.

    Raises:
        ValueError: if `decay` is out of range.

    Example:
        >>> import allgrad as ag
        >>> from allgrad.memory import flatten
        >>> from allgrad.optim import EMA
        >>> w = ag.tensor([0.0], requires_grad=True)
        >>> flat = flatten([w])
        >>> average = EMA(flat, decay=0.75)
        >>> w.assign([4.0])
        >>> average.update()
        >>> with average.swapped():
        ...     print(w.tolist())
        [1.0]
        >>> w.tolist()
        [4.0]
    """

    def __init__(self, flat: FlatParameters, decay: float = 0.999, *, ramp: bool = False) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"EMA: decay must be between 0 and 1. Got {decay} instead.")
        self.flat, self.decay, self.ramp = flat, decay, ramp
        self.updates = 0
        self.average = Arena(flat.layout)
        for dtype, values in flat.params.flat.items():
            self.average.flat[dtype][...] = values

    def update(self) -> None:
        """Move the average towards the current weights; once after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.ramp else self.decay
        self.updates += 1
        for dtype, values in self.flat.params.flat.items():
            average, share = self.average.flat[dtype], dtype.type(1 - decay)
            for span in spans(values.size):
                difference = scratch(dtype, 0, (span.stop - span.start,))
                np.subtract(values[span], average[span], difference)
                np.multiply(difference, share, difference)
                np.add(average[span], difference, average[span])

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own again, also after an exception."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """`{"meta": ..., "arrays": ...}`, as an optimizer's; the arrays are views."""
        return {
            "meta": {"updates": self.updates},
            "arrays": {f"average/{name}": self.average[name] for name in self.flat.leaves},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`.

        Raises:
            ValueError: if parameters are missing or unexpected; they are named.
        """
        mine, theirs = self.state_dict()["arrays"], state["arrays"]
        if mine.keys() != theirs.keys():
            odd = sorted(mine.keys() ^ theirs.keys())
            raise ValueError(f"EMA.load_state_dict: missing or unexpected: {', '.join(odd[:8])}.")
        for key, array in mine.items():
            array[...] = theirs[key]
        self.updates = int(state["meta"]["updates"])

    def _swap(self) -> None:
        for dtype, values in self.flat.params.flat.items():
            average = self.average.flat[dtype]
            for span in spans(values.size):
                kept = scratch(dtype, 0, (span.stop - span.start,))
                kept[...] = values[span]
                values[span] = average[span]
                average[span] = kept
        self.flat.touch()
