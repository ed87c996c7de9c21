"""metrics.jsonl, the progress line and summary.json."""

from __future__ import annotations

import io
import json
import re
import sys
import types
from typing import TYPE_CHECKING

import pytest

from allgrad.errors import UsageError
from allgrad.train.atomic import write_atomic
from allgrad.train.loggers.jsonl import JsonLines, MetricsError
from allgrad.train.loggers.progress import ProgressLine, duration
from allgrad.train.loggers.summary import (
    SUMMARY_KEYS,
    DamagedError,
    read_summary,
    verify_files,
    write_summary,
)
from allgrad.train.loggers.tensorboard import TensorBoard

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as writer:
        writer.log(1, {"loss": 2.5, "nested": {"accuracy": 0.5}})
        assert read(path) == [{"step": 1, "loss": 2.5, "nested": {"accuracy": 0.5}}]


def test_what_is_no_number_is_a_text_that_float_reads(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as writer:
        writer.log(1, {"loss": float("nan"), "norm": [float("inf"), -float("inf")]})
    text = path.read_text()
    line = json.loads(text, parse_constant=pytest.fail)
    assert line == {"step": 1, "loss": "NaN", "norm": ["Infinity", "-Infinity"]}
    assert float(line["norm"][1]) == -float("inf")


@pytest.mark.parametrize("tail", ["", '{"step": 40, "lo', "\0\0"])
def test_resume_cuts_later_lines_and_a_torn_one(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLines(path) as writer:
        for step in (10, 20, 20, 30):
            writer.log(step, {})
    with path.open("a") as file:
        file.write(tail)
    with JsonLines(path, resumed=20) as writer:
        writer.log(30, {"again": True})
    assert read(path) == [{"step": 10}, {"step": 20}, {"step": 20}, {"step": 30, "again": True}]


def test_resume_at_a_torn_line_of_the_past(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"st')
    JsonLines(path, resumed=100).close()
    assert read(path) == [{"step": 10}, {"step": 20}]


def test_resume_without_a_file_begins_one(tmp_path: Path) -> None:
    JsonLines(tmp_path / "metrics.jsonl", resumed=5).close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_a_new_run_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("old\n")
    with pytest.raises(MetricsError, match="File exists"):
        JsonLines(path)
    assert path.read_text() == "old\n"


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"loss": 2}\n{"step": 3}\n')
    with pytest.raises(MetricsError, match=r"metrics.jsonl, line 2: expected a JSON object with a step"):
        JsonLines(path, resumed=3)


def test_not_through_a_link_and_not_into_a_deleted_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"step": 9}\n')
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MetricsError, match="it is a symbolic link"):
        JsonLines(tmp_path / "link", resumed=1)
    assert (tmp_path / "elsewhere").read_text() == '{"step": 9}\n'
    with JsonLines(tmp_path / "metrics.jsonl") as writer:
        (tmp_path / "metrics.jsonl").unlink()
        with pytest.raises(MetricsError, match="it was deleted while the run was writing to it"):
            writer.log(1, {})


def test_rewinding_forgets_later_steps(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "metrics.jsonl") as writer:
        for step in (10, 20, 30):
            writer.log(step, {})
        writer.rewind(15)
        writer.log(20, {"again": True})
    assert read(tmp_path / "metrics.jsonl") == [{"step": 10}, {"step": 20, "again": True}]


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = JsonLines(tmp_path / "metrics.jsonl")
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.log(1, {})


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    line = ProgressLine(100, unit="tokens", stream=stream)
    line.log(10, {"loss": 1.25, "rate": 9999.6, "seconds_left": 3600})
    line.message("saved")
    assert stream.getvalue() == "step 10/100  loss 1.2500  10,000 tokens/s  1:00:00 left\nsaved\n"


def test_a_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    line = ProgressLine(100, stream=stream)
    line.log(10, {"loss": 1.25, "rate": 10.0, "seconds_left": 5})
    shown = stream.getvalue()
    line.message("[saved]")
    line.close()
    assert "10/100" in shown
    assert "1.2500" in shown
    assert "[saved]" in stream.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_live_line_fits_its_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    line = ProgressLine(1300, unit="tokens", stream=stream)
    line.log(10, {"eval": {"loss": 1.6047}})
    line.tick(1203, {"loss": 1.5449, "rate": 12298.0, "comm_hidden_fraction": 0.93, "seconds_left": 61})
    line.close()
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n").strip().splitlines()[-1]
    assert len(last.rstrip()) <= columns
    assert last.startswith("step 1203/1300")
    assert "loss 1.5449" in last
    assert "1:01 left" in last
    assert ("held-out loss 1.6047" in last) == (columns >= 80)
    assert ("93% hidden" in last) == ("12,298 tokens/s" in last) == (columns == 120)


def test_plain_on_a_terminal_and_none() -> None:
    stream = Terminal()
    ProgressLine(100, style="plain", stream=stream).log(10, {"loss": 0.0, "rate": 1.0, "seconds_left": 1})
    assert stream.getvalue().startswith("step 10/100")
    line = ProgressLine(100, style="none", stream=(quiet := io.StringIO()))
    line.log(10, {"loss": 0.0, "rate": 1.0})
    line.log(10, {"eval": {"loss": 0.5}})
    line.message("weights")
    assert quiet.getvalue() == "evaluation after 10 steps: loss 0.5000\nweights\n"


def test_no_time_left_is_shown_before_it_is_known() -> None:
    stream = io.StringIO()
    ProgressLine(100, start=80, stream=stream).log(90, {"loss": 0.0, "rate": 1.0, "comm_hidden_fraction": 0.876})
    assert stream.getvalue() == "step 90/100  loss 0.0000  1 samples/s  88% hidden\n"
    assert "left" not in stream.getvalue()


def test_a_live_line_has_the_held_out_metric_and_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    stream = Terminal()
    line = ProgressLine(100, stream=stream, monitor="r2")
    line.log(10, {"eval": {"loss": 0.5, "r2": 0.987}})
    line.tick(11, {"loss": 1.5, "rate": 10.0, "comm_hidden_fraction": 0.5, "seconds_left": 61})
    line.close()
    assert "loss 1.5000  held-out r2 0.9870  10 samples/s  50% hidden  1:01 left" in stream.getvalue()
    plain = io.StringIO()
    ProgressLine(100, stream=plain).tick(11, {"loss": 1.5, "rate": 10.0})
    assert plain.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (-3, "0:00"), (61, "1:01"), (3599.7, "1:00:00")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# Summary

SUMMARY = dict.fromkeys(SUMMARY_KEYS, 0) | {"eval": {"loss": float("nan")}}


def test_summary_has_the_promised_keys(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(path, SUMMARY)
    found = read_summary(path)
    assert found == json.loads(path.read_text()) == found | SUMMARY | {"eval": {"loss": "NaN"}, "files_sha256": {}}
    with pytest.raises(ValueError, match="lacks weights_sha256"):
        write_summary(path, {key: value for key, value in SUMMARY.items() if key != "weights_sha256"})


def test_a_flipped_bit_in_the_files_of_a_complete_run_is_found(tmp_path: Path) -> None:
    path, metrics = tmp_path / "summary.json", tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1, "loss": 0.1}\n')
    write_summary(path, SUMMARY | {"train_loss": 0.1, "steps": {1: [2.5e-300, None, "ä"]}})
    written = path.read_bytes()
    summary = read_summary(path)
    verify_files(tmp_path, summary)
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 1 << place % 8]) + written[place + 1 :])
        if b"summary_sha256" in path.read_bytes():
            with pytest.raises(DamagedError, match="does not have the digest that it holds"):
                read_summary(path)
    metrics.write_text('{"step": 1, "loss": 0.3}\n')
    with pytest.raises(DamagedError, match=r"metrics\.jsonl does not have the digest in summary\.json"):
        verify_files(tmp_path, summary)
    metrics.unlink()
    verify_files(tmp_path, summary)
    path.write_text('{"steps": 3}')  # of an older version, or edited on purpose
    assert read_summary(path) == {"steps": 3}


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("allgrad.train.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


# TensorBoard


def test_tensorboard_gets_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            got.append((folder, purge_step))

        def add_scalar(self, *call: object) -> None:
            got.append(call)

        def close(self) -> None:
            got.append("closed")

    package = types.ModuleType("tensorboardX")
    package.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", package)
    writer = TensorBoard(tmp_path, resumed=2)
    writer.log(3, {"loss": 1, "name": "x", "eval": {"accuracy": 0.5, "ok": True}})
    writer.close()
    assert got == [(str(tmp_path), 3), ("loss", 1.0, 3), ("eval/accuracy", 0.5, 3), "closed"]


def test_tensorboard_that_is_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"allgrad\[tensorboard\]"):
        TensorBoard(tmp_path)
