"""Exponential moving average of the weights."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels.blocks import scratch, spans
from allgrad.memory import FlatParameters, flatten
from allgrad.optim.groups import members_of
from allgrad.optim.settings import Fraction, checked
from allgrad.optim.state import load_arrays

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Array = np.ndarray[Any, np.dtype[Any]]


class EMA:
    """A second set of weights that follows the trained one: average += (1 - decay) (weights - average).

    Evaluating with the average usually generalizes better than with the last weights (Polyak & Juditsky 1992; the
    exponential form as in Tarvainen & Valpola 2017). Only parameters are averaged. Buffers, such as batch norm's running
    statistics, are averages already.

    Args:
        params: a model, all of its parameters, or FlatParameters (`optimizer.flat`).
        decay: weight of the old average, between 0 and 1.
        ramp: use min(decay, (1 + t) / (10 + t)) at update t, so that the first weights are soon forgotten.

    Raises:
        SettingError: if `decay` is out of range.

    Example:
        >>> import allgrad as ag
        >>> from allgrad.optim import EMA
        >>> w = ag.tensor([0.0], requires_grad=True)
        >>> average = EMA([w], decay=0.75)
        >>> w.assign([4.0])
        >>> average.update()
        >>> with average.swapped():
        ...     print(w.tolist())
        [1.0]
        >>> w.tolist()
        [4.0]
    """

    def __init__(self, params: FlatParameters | Iterable[Any], decay: Fraction = 0.999, *, ramp: bool = False) -> None:
        self.flat = params if isinstance(params, FlatParameters) else flatten(members_of(params))
        self.decay = checked("EMA", "decay", decay, Fraction)
        self.ramp = ramp
        self.updates = 0
        self.average = self.flat.new_arena()
        with self.flat.updating():
            for values, average in self._pairs():
                average[...] = values

    def update(self) -> None:
        """Move the average towards the current weights. Call it once after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.ramp else self.decay
        self.updates += 1
        with self.flat.updating():
            for values, average in self._pairs():
                weight = values.dtype.type(1 - decay)
                for span in spans(values.size):
                    difference = scratch(values.dtype, 0, (span.stop - span.start,))
                    np.subtract(values[span], average[span], difference)
                    np.multiply(difference, weight, difference)
                    np.add(average[span], difference, average[span])

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """A context in which the model has the averaged weights. It gets its own back at the end, also after an exception."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """The number of updates, and the average of each parameter by name (copies)."""
        return {"updates": self.updates, "average": {name: self.average[name].copy() for name in self.flat.leaves}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`.

        Raises:
            StateError: if parameters are missing, unexpected, or of another shape; the message names them.
        """
        load_arrays("EMA.load_state_dict", {name: self.average[name] for name in self.flat.leaves}, state["average"])
        self.updates = int(state["updates"])

    def _swap(self) -> None:
        with self.flat.updating():
            for values, average in self._pairs():
                for span in spans(values.size):
                    kept = scratch(values.dtype, 0, (span.stop - span.start,))
                    kept[...] = values[span]
                    values[span] = average[span]
                    average[span] = kept
        self.flat.touch()

    def _pairs(self) -> Iterator[tuple[Array, Array]]:
        """The weights and their average, of each dtype: the part that this rank updates."""
        for dtype, (start, stop) in self.flat.own_share(whole=False).items():
            yield self.flat.params.flat[dtype][start:stop], self.average.flat[dtype][start:stop]
