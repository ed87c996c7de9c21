"""Reading a run's directory, whatever state it is in."""

from __future__ import annotations

import json
import shutil

import pytest

from allgrad.report.run_files import configuration_differences, read_run, short_names
from allgrad.train.run.directory import RunDirectoryError, lock_run, unlock_run


@pytest.fixture
def copy(values_run, tmp_path):
    """A copy of a finished run that a test may change."""
    shutil.copytree(values_run, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_complete_run(values_run) -> None:
    run = read_run(values_run)
    assert (run.state, run.name, run.owner, run.failure, run.unreadable) == ("complete", "values", "", "", 0)
    assert (run.steps, run.planned_steps) == (30, 30)
    assert [line["step"] for line in run.evaluations] == [10, 20, 30]
    assert [line["step"] for line in run.training] == list(range(2, 31, 2))
    assert run.trace


def test_its_state_while_a_process_owns_it_after_a_failure_and_without_a_word(copy) -> None:
    lock_run(copy)
    try:
        running = read_run(copy)
    finally:
        unlock_run(copy)
    assert running.state == "running"
    assert "process" in running.owner
    (copy / "summary.json").unlink()
    assert read_run(copy).state == "stopped"
    (copy / "failure.txt").write_text("Traceback ...\nValueError: no\n")
    assert read_run(copy).state == "failed"


def test_only_the_configuration_must_be_there(copy) -> None:
    for path in copy.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run = read_run(copy)
    assert (run.state, run.steps, run.training, run.trace) == ("stopped", 0, [], [])
    (copy / "config.yaml").unlink()
    with pytest.raises(RunDirectoryError, match="has no config"):
        read_run(copy)


def test_damaged_files_cost_only_what_they_hold(copy) -> None:
    whole = (copy / "metrics.jsonl").read_text()
    lines = ['{"loss": 1}', "[1]", "garbage", '{"step": "x"}', '{"step": 31, "loss": "NaN"}']
    (copy / "metrics.jsonl").write_text("\n".join(lines) + "\n\n" + whole + '{"step": 40, "lo')
    for name in ("summary.json", "provenance.json", "trace.json"):
        (copy / name).write_text('{"traceEvents": ')
    run = read_run(copy)
    assert run.unreadable == 4
    assert run.training[0]["loss"] != run.training[0]["loss"]
    assert [line["step"] for line in run.training] == [31, *range(2, 31, 2)]
    assert (run.summary, run.provenance, run.trace) == ({}, {}, [])


def test_files_that_do_not_have_their_digests_are_named(copy) -> None:
    assert read_run(copy).damaged == []
    metrics = copy / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"step": 2,', '"step": 3,', 1))
    run = read_run(copy)
    assert run.damaged == [f"{metrics} does not have the digest in summary.json: it was edited, or damaged."]
    assert run.summary["steps"] == 30
    summary = copy / "summary.json"
    summary.write_text(summary.read_text().replace('"steps": 30', '"steps": 31'))
    run = read_run(copy)
    assert (run.state, run.summary) == ("complete", {})
    assert f"{summary} does not have the digest that it holds" in run.damaged[0]


def test_names_differ_and_differences_are_those_of_the_configurations(values_run, classes_run) -> None:
    runs = [read_run(values_run), read_run(classes_run), read_run(values_run)]
    assert short_names(runs) == ["values", "<script>alert(1)<script>", "values (2)"]
    found = configuration_differences(runs)
    assert found["data.task"] == ["values", "classes", "values"]
    assert found["seed"] == [3, 4, 3]
    assert "run.dir" not in found
    assert "model.name" not in found
    assert configuration_differences([runs[0], runs[2]]) == {}


def test_reading_changes_nothing(values_run) -> None:
    def everything():
        return {path: path.stat().st_mtime_ns for path in values_run.rglob("*")}

    before = everything()
    read_run(values_run)
    assert everything() == before
    assert json.loads((values_run / "summary.json").read_text())["steps"] == 30
