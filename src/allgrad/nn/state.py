"""Taking over saved numbers: the parameters and buffers of a model against the arrays of a `state_dict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.nn.parameter import Array, Parameter, TorchLayout
from allgrad.stateful import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class LoadResult(NamedTuple):
    """The names that `load_state_dict` found on one side only."""

    missing: list[str]
    unexpected: list[str]


class Entry(NamedTuple):
    """A parameter or buffer that is saved: its name, numbers, PyTorch's layout of them, and the Parameter or buffer itself."""

    name: str
    array: Array
    layout: TorchLayout
    target: Any


def load_entries(model: str, entries: Sequence[Entry], state: Mapping[str, Any], *, strict: bool) -> LoadResult:
    """`Module.load_state_dict` for these entries; `model` is the class of the model, for messages."""
    given = {id(target) for name, _, _, target in entries if name in state}
    missing = [name for name, _, _, target in entries if name not in state and id(target) not in given]
    unexpected = [name for name in state if name not in {entry[0] for entry in entries}]
    if strict and (missing or unexpected):
        raise StateError(
            f"load_state_dict: these weights are not those of this {model}. "
            f"Missing: {', '.join(missing) or 'none'}. Unexpected: {', '.join(unexpected) or 'none'}. "
            "Pass strict=False to load the rest."
        )
    found: dict[int, tuple[str, Any, Array]] = {}
    for name, array, layout, target in entries:
        if name not in state:
            continue
        new = _converted(name, np.asarray(state[name]), array, layout)
        if id(target) in found and not np.array_equal(found[id(target)][2], new, equal_nan=True):
            raise StateError(
                f"load_state_dict: {found[id(target)][0]!r} and {name!r} are one parameter in this model, "
                "but have different numbers in the state. Build the model untied, or remove one of them."
            )
        found.setdefault(id(target), (name, target, new))
    for _, target, new in found.values():
        if isinstance(target, Parameter):
            target.assign(new)
        else:
            target[...] = new
    return LoadResult(missing, unexpected)


def _converted(name: str, given: Array, ours: Array, layout: TorchLayout) -> Array:
    expected = layout.to_torch(ours).shape
    if given.shape != expected:
        raise StateError(
            f"load_state_dict: {name!r} has shape {expected} in this model. Got shape {given.shape} instead."
        )
    if not np.can_cast(given.dtype, ours.dtype, "same_kind"):
        raise StateError(f"load_state_dict: {name!r} is {ours.dtype} in this model. Got {given.dtype} instead.")
    return layout.from_torch(given).astype(ours.dtype)
