"""`summary.json`: written in one step when the run has finished. Where it exists, the run is complete."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from allgrad.train.atomic import write_json_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SUMMARY_KEYS", "Summary", "write_summary"]

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


class Summary(dict[str, Any]):
    """The results of a run: a dict that a notebook shows as a table.

    >>> Summary({"steps": 3, "eval": {"loss": 0.5}})._repr_html_()
    '<table><tr><th>steps</th><td>3</td></tr><tr><th>eval</th><td>loss 0.5</td></tr></table>'
    """

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{_cell(value)}</td></tr>" for key, value in self.items())
        return f"<table>{rows}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{html.escape(str(name))} {_cell(part)}" for name, part in value.items())
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))


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
