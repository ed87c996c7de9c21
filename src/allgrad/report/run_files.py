"""What a run's directory says, whatever state the run is in.

Contract. Reading never changes a run, and works beside a job that writes to it. `config.yaml` must be there; everything
else may be missing, incomplete or damaged. A line of `metrics.jsonl` that cannot be read is counted and left out. So a
report is possible for a run that has just started, that is still going, that failed, or that was put together by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from allgrad.errors import AllgradError
from allgrad.train.config.changes import flat_keys
from allgrad.train.config.yaml_text import load
from allgrad.train.loggers.summary import DamagedError, read_summary, verify_files
from allgrad.train.run.directory import open_run_directory, owner_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RunFiles", "State", "configuration_differences", "read_run", "short_names"]

State = Literal["complete", "running", "failed", "stopped"]


@dataclass(frozen=True)
class RunFiles:
    """The content of a run's directory.

    Attributes:
        directory: the run's.
        name: for legends and headings; unique among the runs of a page.
        state: "complete" (it has a summary), "running" (a process owns the directory), "failed" (it left the cause of a failure),
            or "stopped" (by a signal, or killed without a trace).
        owner: the process that owns the directory, in words; "" if none does.
        config: the stored configuration, as nested mappings.
        config_text: the same as written.
        training: the lines of metrics.jsonl with training values.
        evaluations: the lines with results on held-out data.
        unreadable: how many lines could not be read.
        damaged: what is wrong with files that have a digest, in words.
        summary, provenance: the JSON files; empty if they are missing or damaged.
        failure: the cause of the failure, as written by the rank that failed; "" if there is none.
        trace: the events of trace.json; empty if there is no trace.
    """

    directory: Path
    name: str
    state: State
    owner: str
    config: dict[str, Any]
    config_text: str
    training: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    unreadable: int
    damaged: list[str]
    summary: dict[str, Any]
    provenance: dict[str, Any]
    failure: str
    trace: list[dict[str, Any]] = field(repr=False)

    @property
    def steps(self) -> int:
        """How many steps are known to be done."""
        seen = [line["step"] for line in (*self.training[-1:], *self.evaluations[-1:])]
        return int(self.summary.get("steps") or max(seen, default=0))

    @property
    def planned_steps(self) -> int | None:
        """The planned length of the run; None if it is not on record."""
        planned = self.provenance.get("planned_steps") or self.config.get("train", {}).get("steps")
        return planned if isinstance(planned, int) else None


def read_run(path: str | Path) -> RunFiles:
    """Read a run's directory.

    Raises:
        RunDirectoryError: it is not one.
        ConfigError: its config.yaml is not YAML.
    """
    directory = open_run_directory(path)
    try:
        text = (directory / "config.yaml").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AllgradError(
            f"{directory / 'config.yaml'} is not valid UTF-8 (invalid byte at offset {error.start})."
        ) from error
    config = load(text, str(directory / "config.yaml")).value
    training, evaluations, unreadable = _metrics(directory / "metrics.jsonl")
    summary, damaged = _summary(directory)
    failure = _text(directory / "failure.txt")
    owner = owner_of(directory)
    trace = _json(directory / "trace.json").get("traceEvents", [])
    return RunFiles(
        directory=directory,
        name=_name(directory, config),
        state="running" if owner else "complete" if summary or damaged else "failed" if failure else "stopped",
        owner=owner,
        config=config if isinstance(config, dict) else {},
        config_text=text,
        training=training,
        evaluations=evaluations,
        unreadable=unreadable,
        damaged=damaged,
        summary=summary,
        provenance=_json(directory / "provenance.json"),
        failure=failure,
        trace=[event for event in trace if isinstance(event, dict)] if isinstance(trace, list) else [],
    )


def short_names(runs: list[RunFiles]) -> list[str]:
    """A different name for each run: its own, with a number where two have the same.

    The names tell runs apart in legends, so they are given here and not taken from paths, which may be long.
    """
    names: list[str] = []
    for run in runs:
        number, name = 1, run.name
        while name in names:
            number += 1
            name = f"{run.name} ({number})"
        names.append(name)
    return names


def configuration_differences(runs: list[RunFiles]) -> dict[str, list[Any]]:
    """The keys of the configuration in which runs differ, and the value in each run; None where a run has no such key.

    The directory of the run is not compared.
    """
    flat = [flat_keys(run.config) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = {key: [one.get(key) for one in flat] for key in keys if key != "run.dir"}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def _name(directory: Path, config: Any) -> str:
    section = config.get("run") if isinstance(config, dict) else None
    name = section.get("name") if isinstance(section, dict) else None
    return str(name or directory.resolve().name)


def _summary(directory: Path) -> tuple[dict[str, Any], list[str]]:
    """The summary, empty if it is missing or damaged, and what is wrong with it, or with the files of which it has digests."""
    summary: dict[str, Any] = {}
    try:
        summary = _numbers(read_summary(directory / "summary.json"))
        verify_files(directory, summary)
    except DamagedError as error:
        return summary, [str(error)]
    except OSError:
        pass
    return summary, []


def _metrics(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Training lines, evaluations, and the number of whole lines that could not be read."""
    training: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = []
    unreadable = 0
    for line in _text(path).splitlines(keepends=True):
        if not line.endswith("\n") or not line.strip():
            continue  # a writer is in the middle of it
        try:
            values = _numbers(json.loads(line))
            values["step"] = int(values["step"])
        except (ValueError, KeyError, TypeError, RecursionError):
            unreadable += 1
            continue
        (evaluations if isinstance(values.get("eval"), dict) else training).append(values)
    return training, evaluations, unreadable


_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def _numbers(value: Any) -> Any:
    """The same value with the texts that stand for NaN and infinities as numbers."""
    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items()}
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none, or if it is damaged."""
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
