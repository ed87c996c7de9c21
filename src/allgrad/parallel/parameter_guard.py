"""Does the model still have the parameters that data parallelism was set up for?

A parameter that is replaced, added or bound to other memory after `DataParallel` was made would not be trained, or would be
trained by this rank alone. Walking through all modules before every step would take longer than a small model's step. So
the guard compares the places where the parameters were found, and walks through all modules only if something changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.autodiff import Tensor

if TYPE_CHECKING:
    from allgrad import nn
    from allgrad.memory import FlatParameters


_array_of = Tensor.__dict__["value"].__get__  # without waiting for one that is on its way (`arriving.py`)


class ParameterGuard:
    """Remembers the parameters of a model; `check` compares.

    Attributes:
        changes: how often `check` found that something in the modules has changed, though their parameters are the same.
    """

    def __init__(self, model: nn.Module, flat: FlatParameters) -> None:
        self.model, self.flat = model, flat
        self.changes = 0
        self._remember()

    def _remember(self) -> None:
        spaces = [vars(module) for module in self.model.modules()]
        leaves = {id(leaf): self.flat.params[name] for name, leaf in self.flat.leaves.items()}
        self._sizes = [(space, len(space)) for space in spaces]
        self._places: list[tuple[dict[str, Any], str, Tensor, Any]] = [
            (space, attribute, thing, leaves[id(thing)])
            for space in spaces
            for attribute, thing in space.items()
            if id(thing) in leaves
        ]

    def check(self) -> None:
        """Raise ValueError, naming the parameters that have changed."""
        for space, attribute, parameter, value in self._places:
            if space.get(attribute) is not parameter or _array_of(parameter) is not value:
                break
        else:
            if all(len(space) == size for space, size in self._sizes):
                return
        now = dict(self.model.named_parameters())
        known = self.flat.leaves
        wrong = [f"{name} is new" for name in now if name not in known]
        wrong += [f"{name} is gone" for name in known if name not in now]
        for name, leaf in known.items():
            if name in now and (now[name] is not leaf or leaf.value is not self.flat.params[name]):
                how = "replaced" if now[name] is not leaf else "given other memory"
                wrong.append(f"{name} was {how} (shape {self.flat.layout[name].shape}, now {now[name].shape})")
        if wrong:
            raise ValueError(
                "The parameters of the model have changed since DataParallel was made: "
                f"{'; '.join(wrong[:5])}. Write new values with .assign(array), or make a new DataParallel and optimizer."
            )
        self.changes += 1
        self._remember()
