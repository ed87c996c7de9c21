"""Starting from another run's weights: `model.from`, with `model.from_except` for what starts anew.

What a weight means depends on the inputs: on the means and scales of a table's columns, on the order of its categories, on the
vocabulary. So a run that starts from another one prepares its inputs as that one did, and fits nothing of them anew. Its
targets (classes, the scale of a value) are those of the other run too, unless some weights are excepted: then they are fitted
anew, as a new output layer needs it.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allgrad.errors import UsageError
from allgrad.train.run.model import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from allgrad import nn
    from allgrad.train.config.schema import RunConfig

__all__ = ["WarmStart", "WarmStartError", "warm_start"]

_TARGETS = ("target", "task", "classes", "class_counts", "outputs", "target_shape")
"""The entries of the stored preprocessing that concern targets."""

_SHOWN = 5


class WarmStartError(UsageError):
    """Another run's weights do not fit the model."""


@dataclass(frozen=True)
class WarmStart:
    """What a run takes from another one.

    Attributes:
        directory: of the other run.
        weights: its weights (the averaged ones, if its evaluations used them), by name.
        fitted: the preprocessing that is taken over.
        exceptions: patterns of parameters that start anew.
    """

    directory: str
    weights: Mapping[str, NDArray[Any]]
    fitted: Mapping[str, Any]
    exceptions: Sequence[str]

    def load_into(self, model: nn.Module) -> None:
        """Give the model the weights, and leave what is excepted as it is.

        Raises:
            WarmStartError: weights are missing, left over or of another shape, or an exception fits nothing.
        """
        own = model.state_dict()
        names = [*own, *self.weights]
        if idle := [pattern for pattern in self.exceptions if not fnmatch.filter(names, pattern)]:
            raise WarmStartError(
                f"model.from_except: nothing is called {', '.join(idle)}. The weights are {', '.join(own)}."
            )
        taken = {name: array for name, array in self.weights.items() if not self._excepted(name)}
        wrong = [f"{name} is not in {self.directory}" for name in own if name not in taken and not self._excepted(name)]
        wrong += [f"{name} is not in this model" for name in taken if name not in own]
        wrong += [
            f"{name} has shape {array.shape} there and {own[name].shape} here"
            for name, array in taken.items()
            if name in own and own[name].shape != array.shape
        ]
        if wrong:
            more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise WarmStartError(
                f"model.from: the weights of {self.directory} do not fit this model: {'; '.join(wrong[:_SHOWN])}{more}. Make the "
                "models alike, or list what starts anew in model.from_except."
            )
        model.load_state_dict({**own, **taken})

    def _excepted(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.exceptions)


def warm_start(config: RunConfig) -> WarmStart | None:
    """What a new run takes from another one; None if it starts from random weights.

    Raises:
        AllgradError: the other run cannot be read.
    """
    directory = config.model.origin
    if directory is None:
        return None
    origin = load_model(directory)
    exceptions = config.model.from_except
    fitted = {key: value for key, value in origin.fitted.items() if not exceptions or key not in _TARGETS}
    return WarmStart(directory, origin.model.state_dict(), fitted, exceptions)
