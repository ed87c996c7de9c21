"""What a resumed run may change of its configuration, and what it needs: the plugins that it was made with."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from allgrad.train.config import changed_keys, resolve
from allgrad.train.config.plugins import plugin_digests
from allgrad.train.run.directory import RunDirectoryError, open_run_directory, recorded_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allgrad.train.config.schema import RunConfig

__all__ = ["FIXED", "MAY_CHANGE", "changed_config"]

MAY_CHANGE = (
    "train.*",
    "checkpoint.*",
    "logging.*",
    "batch.eval_size",
    "parallel.memory",
    "parallel.shard",
    "parallel.bucket_mb",
    "parallel.comm",
    "parallel.startup_seconds",
    "parallel.stall_seconds",
    "parallel.verify_every",
)
"""What may be changed when a run is resumed, besides the location of its data: its length, and what it reports."""

FIXED = ("train.monitor.*",)
"""Exceptions from it: values of another metric cannot be compared with the best one so far."""


def changed_config(
    directory: Path, overrides: Sequence[str], plugins: Sequence[str | Path]
) -> tuple[RunConfig, RunConfig]:
    """A run's configuration as stored, and with overrides.

    Raises:
        RunDirectoryError: it is not a run's directory, lacks plugins, or an override changes what may not change.
    """
    path = open_run_directory(directory) / "config.yaml"
    _check_plugins(directory, plugins)
    stored = resolve(path, plugins=plugins)
    config = resolve(path, overrides, plugins=plugins)
    allowed = [*MAY_CHANGE, *(f"data.{key}" for key in stored.data.locations())]
    refused = {
        key: values
        for key, values in changed_keys(stored, config).items()
        if not _matches(key, allowed) or _matches(key, FIXED)
    }
    if refused:
        lines = [f"  {key} (saved: {old}, requested: {new})" for key, (old, new) in refused.items()]
        raise RunDirectoryError(
            f"Cannot resume {directory} with different values of\n"
            + "\n".join(lines)
            + f"\nOnly {', '.join(allowed)} may change (but not {', '.join(FIXED)}). For another experiment, start a new run "
            f"with `allgrad train {path} ... run.dir=...`."
        )
    return stored, config


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _check_plugins(directory: Path, plugins: Sequence[str | Path]) -> None:
    """Refuse to continue a run without the plugins that it was made with; they are never run unasked."""
    recorded = recorded_plugins(directory)
    if recorded and not plugins:
        options = " ".join(f"--plugin {name}" for name in recorded)
        raise RunDirectoryError(f"{directory} was made with plugins, which are not loaded unasked. Pass {options}.")
    missing = set(recorded.values()) - set(plugin_digests(plugins).values())
    if missing and len(plugins) < len(recorded):
        names = ", ".join(name for name, digest in recorded.items() if digest in missing)
        raise RunDirectoryError(f"{directory} was made with more plugins than are given here. Missing: {names}.")
