"""`summary.json`: written in one step when the run has finished. Where it exists, the run is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.train.atomic import write_json_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SUMMARY_KEYS", "write_summary"]

SUMMARY_KEYS = (
    "steps",
    "epochs",
    "train_loss",
    "eval",
    "weights_sha256",
    "ranks",
    "virtual_workers",
    "seconds",
    "samples_per_second",
    "comm_hidden_fraction",
    "portable",
)
"""What every summary has at least; scripts rely on these keys."""


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` in one step.

    Raises:
        ValueError: one of `SUMMARY_KEYS` is missing.
        OSError: it cannot be written.
    """
    missing = [key for key in SUMMARY_KEYS if key not in summary]
    if missing:
        raise ValueError(f"The summary lacks {', '.join(missing)}. Every summary has {', '.join(SUMMARY_KEYS)}.")
    write_json_atomic(path, dict(summary))
