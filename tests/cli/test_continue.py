"""`train --continue`: what a scheduler starts again with the same words, which start a run, continue it, or find it complete."""

from __future__ import annotations

import json

import pytest
from small_run import summary, write_config

from allgrad.cli.main import main


@pytest.fixture
def words(tmp_path):
    """words(*overrides) -> the command line."""
    config = write_config(tmp_path, train={"steps": 20, "early_stopping": None}, checkpoint={"every": 5})
    return lambda *overrides: ["train", str(config), "--continue", f"run.dir={tmp_path / 'run'}", *overrides]


def test_it_starts_continues_and_ends(words, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    assert main(words()) == 0
    digest = summary(run)["weights_sha256"]
    (run / "summary.json").unlink()
    for step in ("20", "15"):  # as if it had been stopped after step 10
        (run / "checkpoints" / f"step-0000{step}").rename(tmp_path / step)
    assert main(words()) == 0
    assert summary(run)["weights_sha256"] == digest
    assert main(words()) == 0
    assert "is complete: 20 of 20 steps are done" in capsys.readouterr().err


def test_another_experiment_is_refused(words, tmp_path, capsys) -> None:
    assert main(words("train.steps=5")) == 0
    before = summary(tmp_path / "run")
    assert main(words("train.steps=5", "seed=4", "optimizer.lr=1e-2")) == 2
    said = capsys.readouterr().err
    assert "seed (saved: 3, requested: 4)" in said
    assert summary(tmp_path / "run") == before


def test_more_steps_are_trained(words, tmp_path) -> None:
    assert main(words("train.steps=5")) == 0
    assert main(words("train.steps=10")) == 0
    assert summary(tmp_path / "run")["steps"] == 10
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 10


def test_without_a_directory_there_is_nothing_to_continue(tmp_path, capsys) -> None:
    assert main(["train", str(write_config(tmp_path)), "--continue"]) == 2
    assert "--continue needs run.dir=..." in capsys.readouterr().err
