"""Parameter groups: which parameters share which settings, in the form that PyTorch users know."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from allgrad.optim.settings import SettingError, checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allgrad.autodiff import Tensor


class Group:
    """The settings of some parameters, as attributes: `group.lr = 0.1` takes effect at the next step.

    Attributes:
        names: the parameters, in order of registration.
        options: all settings as a dictionary; the attributes read and write this same object.
    """

    names: tuple[str, ...]
    options: dict[str, Any]

    def __init__(self, names: Iterable[str], options: Mapping[str, Any], annotations: Mapping[str, Any]) -> None:
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "options", dict(options))
        object.__setattr__(self, "_annotations", annotations)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.options[name]
        except KeyError:
            raise AttributeError(self._unknown(name)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.options:
            raise AttributeError(self._unknown(name))
        self.options[name] = checked("Group", name, value, self._annotations[name])

    def _unknown(self, name: str) -> str:
        return f"This group has no setting {name!r}. Its settings are {', '.join(self.options)}."

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"Group({len(self.names)} parameters, {settings})"


def split_groups(
    params: Iterable[Any], defaults: Mapping[str, Any], annotations: Mapping[str, Any], optimizer: str
) -> tuple[list[Tensor | tuple[str, Tensor]], list[int], list[dict[str, Any]]]:
    """Sort out what a user passed as `params`.

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        defaults: settings for what a group does not set itself.
        annotations: the types of all settings.
        optimizer: the name of the class, for messages.

    Returns:
        The parameters in order, the number of each one's group, and the settings of each group.

    Raises:
        SettingError: if there are no parameters, one is in two groups, a group has no "params", or a setting is unknown or
            out of range.
    """
    given = members_of(params)
    if not given:
        raise SettingError(f"{optimizer}: there are no parameters to optimize.")
    groups = given if isinstance(given[0], dict) else [{"params": given}]
    items: list[Any] = []
    numbers: list[int] = []
    settings: list[dict[str, Any]] = []
    owner: dict[int, int] = {}
    for number, group in enumerate(groups):
        if not isinstance(group, dict) or "params" not in group:
            raise SettingError(
                f"{optimizer}: group {number} must be a dict with the key 'params'. Got {group!r} instead."
            )
        options = {**defaults, **{key: value for key, value in group.items() if key != "params"}}
        settings.append(
            _checked(options, annotations, f"{optimizer}: group {number}" if groups is given else optimizer)
        )
        for item in members_of(group["params"]):
            leaf = item[1] if isinstance(item, tuple) else item
            if owner.setdefault(id(leaf), number) != number:
                raise SettingError(f"{optimizer}: a parameter is in group {owner[id(leaf)]} and in group {number}.")
            items.append(item)
            numbers.append(number)
    return items, numbers, settings


def _checked(options: Mapping[str, Any], annotations: Mapping[str, Any], owner: str) -> dict[str, Any]:
    for name in options:
        if name not in annotations:
            near = difflib.get_close_matches(name, annotations, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The settings are {', '.join(annotations)}."
            raise SettingError(f"{owner}: unknown setting {name!r}. {hint}")
    return {name: checked(owner, name, value, annotations[name]) for name, value in options.items()}


def members_of(params: Any) -> list[Any]:
    """The entries of `params`: a Module's named parameters, a single leaf as a list of one, any other iterable as a list."""
    if hasattr(params, "named_parameters"):
        return list(params.named_parameters())
    return [params] if hasattr(params, "bind") else list(params)
