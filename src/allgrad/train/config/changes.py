"""What differs between two configurations, for example a stored one and the one that a resumed run is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allgrad.train.config.schema import RunConfig

__all__ = ["changed_keys"]


def changed_keys(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ: from the dotted key to the two values, None for a key that one does not have."""
    first, second = _flat(one.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
    pairs = {key: (first.get(key), second.get(key)) for key in [*first, *second]}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
