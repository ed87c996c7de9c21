"""`summary.json`: written in one step when the run has finished. Where it exists, the run is complete.

It holds digests, so that a flipped bit is found when the files are read: `files_sha256`, of the bytes of metrics.jsonl and
provenance.json, and `summary_sha256`, of all other values in it, as JSON with sorted keys and no spaces. (config.yaml and
checkpoints have digests of their own.)
"""

from __future__ import annotations

import hashlib
import html
import json
from typing import TYPE_CHECKING, Any

from allgrad.errors import AllgradError
from allgrad.train.atomic import json_safe, write_json_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SUMMARY_KEYS", "DamagedError", "Summary", "read_summary", "verify_files", "write_summary"]

_OWN, _OTHERS = "summary_sha256", "files_sha256"
_FILES = ("metrics.jsonl", "provenance.json")


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


class DamagedError(AllgradError):
    """A file of a run is not what was written."""


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
    values = dict(summary)
    values[_OTHERS] = {name: _sha256(path.with_name(name)) for name in _FILES if path.with_name(name).is_file()}
    write_json_atomic(path, values | {_OWN: _digest(values)})


def read_summary(path: Path) -> dict[str, Any]:
    """What `write_summary` wrote. One without a digest, of an older version, is taken as it is.

    Raises:
        DamagedError: it is not what was written.
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        damaged = _OWN in found and found[_OWN] != _digest({key: found[key] for key in found if key != _OWN})
    except (ValueError, TypeError, RecursionError):
        damaged = True
    if damaged:
        raise DamagedError(
            f"{path} does not have the digest that it holds: it was edited, or damaged. If you edited it, delete its line "
            f"{_OWN}."
        )
    values: dict[str, Any] = found
    return values


def verify_files(directory: Path, summary: Mapping[str, Any]) -> None:
    """Check the other files of a complete run; those that are missing are left out.

    Raises:
        DamagedError: one does not have the digest that the summary holds.
    """
    for name, digest in summary.get(_OTHERS, {}).items():
        path = directory / name
        if path.is_file() and _sha256(path) != digest:
            raise DamagedError(f"{path} does not have the digest in summary.json: it was edited, or damaged.")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(values: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(json_safe(dict(values))))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
