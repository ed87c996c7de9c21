"""Parameter groups: which parameters share which settings, as PyTorch users write them."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allgrad.autodiff import Tensor

Bounds = dict[str, tuple[float, float]]


class Group:
    """The settings of some parameters, as attributes: `group.lr = 0.1`. Schedules write them between steps.

    Attributes:
        names: the parameters, in order of registration.
        options: all settings as a dictionary (the same object that the attributes read and write).
    """

    names: tuple[str, ...]
    options: dict[str, Any]

    def __init__(self, names: Iterable[str], options: Mapping[str, Any]) -> None:
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "options", dict(options))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self.options[name]
        except KeyError:
            raise AttributeError(f"this group has no setting {name!r}; it has {', '.join(self.options)}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.options:
            raise AttributeError(f"this group has no setting {name!r}; it has {', '.join(self.options)}.")
        self.options[name] = value

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"Group({len(self.names)} parameters, {settings})"


def split_groups(
    params: Iterable[Any], defaults: Mapping[str, Any], optimizer: str
) -> tuple[list[Tensor | tuple[str, Tensor]], list[int], list[dict[str, Any]]]:
    """What a user gave as `params`: the parameters in order, the group of each, and the settings of each group.

    Raises:
        ValueError: if there are none, or one is in two groups.
        TypeError: if a group has no "params", or a setting that the optimizer does not know.
    """
    given = list(params)
    if not given:
        raise ValueError(f"{optimizer}: there are no parameters to optimize.")
    groups = given if isinstance(given[0], dict) else [{"params": given}]
    items: list[Any] = []
    numbers: list[int] = []
    settings: list[dict[str, Any]] = []
    owner: dict[int, int] = {}
    for number, group in enumerate(groups):
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"{optimizer}: group {number} must be a dict with the key 'params'. Got {group!r} instead.")
        options = {key: value for key, value in group.items() if key != "params"}
        _known(options, defaults, optimizer, number)
        members = group["params"]
        for item in [members] if hasattr(members, "bind") else members:
            leaf = item[1] if isinstance(item, tuple) else item
            if owner.setdefault(id(leaf), number) != number:
                raise ValueError(f"{optimizer}: a parameter is in group {owner[id(leaf)]} and in group {number}.")
            items.append(item)
            numbers.append(number)
        settings.append({**defaults, **options})
    return items, numbers, settings


def check_bounds(options: Mapping[str, Any], bounds: Bounds, optimizer: str) -> None:
    """Raise ValueError for a setting (or an entry of a pair of settings) outside of low <= x <= high."""
    for name, (low, high) in bounds.items():
        for value in options[name] if isinstance(options[name], tuple | list) else (options[name],):
            if value is not None and not low <= value <= high:
                rule = f"{low} or more" if high == math.inf else f"between {low} and {high}"
                raise ValueError(f"{optimizer}: {name} must be {rule}. Got {options[name]!r} instead.")


def _known(options: Mapping[str, Any], defaults: Mapping[str, Any], optimizer: str, number: int) -> None:
    for name in options:
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" It knows {', '.join(defaults)}."
            raise TypeError(f"{optimizer}: group {number} has the unknown setting {name!r}.{hint}")
