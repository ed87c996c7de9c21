"""What differs between a stored configuration and the one that a resumed run is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.train.config import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.train.config.schema import RunConfig, ScheduleSection

__all__ = ["changed_keys", "schedule_conflict"]


def changed_keys(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ: from the dotted key to the two values, None for a key that one does not have."""
    first, second = _flat(one.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
    pairs = {key: (first.get(key), second.get(key)) for key in [*first, *second]}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def schedule_conflict(stored: RunConfig, config: RunConfig, overrides: Sequence[str]) -> str | None:
    """Why a resumed run's new length would make its learning rate jump, and what to do; None where it would not.

    A schedule such as cosine is spread over the whole run, so another length gives another rate at the step where the run
    continues. An override of `optimizer.schedule...`, even with the stored value, says that this is meant.
    """
    keys = ("train.steps", "train.epochs")
    changed = {key: pair for key, pair in changed_keys(stored, config).items() if key in keys}
    schedule = config.optimizer.schedule
    meant = any(override.startswith("optimizer.schedule") for override in overrides)
    if not changed or meant or schedule is None or not _depends_on_length(schedule):
        return None
    lengths = ", ".join(f"{key}: saved {old}, requested {new}" for key, (old, new) in changed.items())
    return (
        f"Another length ({lengths}) makes the learning rate jump: the schedule {schedule.name!r} is spread over the whole "
        f"run. To spread it over the new length, repeat its name: optimizer.schedule.name={schedule.name}. To go on at a "
        "constant rate, give optimizer.schedule.name=constant."
    )


def _depends_on_length(section: ScheduleSection) -> bool:
    """Whether the rate at one of some steps differs between two lengths of the run."""
    if isinstance(section.warmup, float) and section.warmup > 0:
        return True
    short, long = (registry.schedules.build(section, steps) for steps in (1000, 2000))
    return any(short(step) != long(step) for step in (0, 1, 250, 500, 750, 999))


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
