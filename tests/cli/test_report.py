"""`allgrad report` and `allgrad trace` as commands, on runs in every state."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from runs import train
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.callbacks import Callback
from allgrad.train.run.directory import lock_run, unlock_run


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, train={"steps": 30, "eval_every": 10, "early_stopping": None})


class Command(Callback):
    """Runs a command of allgrad beside the training, and keeps the run going until it has ended."""

    def __init__(self, *words: str) -> None:
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run, args=(words,))

    def _run(self, words) -> None:
        self.code = main([*words])

    def on_step(self, run, result) -> None:
        if run.progress.step == 5:
            self.thread.start()
        if run.progress.step >= run.plan.steps - 1:
            self.thread.join()
        run.boundary.looked_at = 0.0  # look for a request in every step


def test_a_trace_of_a_running_job(config, tmp_path, capsys) -> None:
    run = tmp_path / "run"

    class Waits(Command):
        """The run goes on until the trace is there: the command ends only then."""

        def on_step(self, run, result) -> None:
            run.boundary.looked_at = 0.0
            if run.progress.step == 5:
                self.thread.start()
            if run.progress.step > 5 and self.thread.is_alive():
                self.thread.join(0.02)

    command = Waits("trace", str(run), "--steps", "2")
    train(
        config,
        run,
        "train.steps=5000",
        "train.eval_every=null",
        "checkpoint.every=5000",
        callbacks=[command, Stop(command)],
    )
    assert command.code == 0
    assert (run / "trace.json").exists()
    assert f"the trace is in {run / 'trace.json'}" in capsys.readouterr().out


class Stop(Callback):
    """Ends the run once a command has ended."""

    def __init__(self, command: Command) -> None:
        self.command = command

    def on_step(self, run, result) -> None:
        if self.command.code is not None:
            run.stop("enough")


def test_no_trace_of_a_run_that_is_over(config, tmp_path, capsys) -> None:
    train(config, tmp_path / "run", "train.steps=2")
    assert main(["trace", str(tmp_path / "run")]) == 2
    assert f"No job is running in {tmp_path / 'run'}" in capsys.readouterr().err
    assert not (tmp_path / "run" / ".trace-request").exists()
    lock_run(tmp_path / "run")
    try:
        assert main(["trace", str(tmp_path / "run"), "--steps", "0"]) == 2
    finally:
        unlock_run(tmp_path / "run")


def test_a_job_that_ends_meanwhile(config, tmp_path, capsys, monkeypatch) -> None:
    train(config, tmp_path / "run", "train.steps=2")
    lock_run(tmp_path / "run")
    monkeypatch.setattr("allgrad.cli.trace.time.sleep", lambda _: unlock_run(tmp_path / "run"))
    assert main(["trace", str(tmp_path / "run")]) == 1
    assert "ended before it wrote a trace" in capsys.readouterr().err


def test_a_report_beside_the_run(config, tmp_path, capsys) -> None:
    pytest.importorskip("plotly", reason="the report needs plotly (allgrad[report])")
    command = Command("report", str(tmp_path / "run"), "-o", str(tmp_path / "page.html"))
    train(config, tmp_path / "run", callbacks=[command])
    assert command.code == 0
    assert '<span class="state running">running</span>' in (tmp_path / "page.html").read_text()


def test_a_report_of_a_run_that_failed(config, tmp_path, capsys) -> None:
    pytest.importorskip("plotly", reason="the report needs plotly (allgrad[report])")
    words = ["optimizer.lr=1e30", "optimizer.name=sgd", "optimizer.clip_norm=null", "optimizer.schedule=null"]
    with np.errstate(all="ignore"):
        assert main(["train", str(config), f"run.dir={tmp_path / 'run'}", *words]) == 3
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<span class="state failed">failed</span>' in page
    assert "Why run failed" in page
    assert "The last report is of step" in page
    assert "There is no evaluation: " in page
