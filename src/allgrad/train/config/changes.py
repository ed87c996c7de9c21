"""What differs between two configurations, for example a stored one and the one that a resumed run is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allgrad.train.config.schema import RunConfig

__all__ = ["changed_keys", "flat_keys"]


def changed_keys(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ: from the dotted key to the two values, None for a key that one does not have."""
    first, second = flat_keys(one.model_dump(mode="json")), flat_keys(other.model_dump(mode="json"))
    pairs = {key: (first.get(key), second.get(key)) for key in [*first, *second]}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def flat_keys(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, from dotted keys.

    >>> flat_keys({"optimizer": {"lr": 0.1}, "seed": 1})
    {'optimizer.lr': 0.1, 'seed': 1}
    """
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
