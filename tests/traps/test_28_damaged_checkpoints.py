"""Trap 28. A checkpoint cut short at any byte, or with one bit flipped, is never loaded."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import metrics, summary, write_config

from allgrad.errors import AllgradError
from allgrad.train.checkpoint.format import load_latest
from allgrad.train.run.build import Options, new_run, resume_run

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("model.safetensors", "training.safetensors", "state.json", "manifest.json")


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """A run of 30 steps with a checkpoint every 10, and at each better evaluation."""
    folder = tmp_path_factory.mktemp("damaged")
    config = write_config(folder, train={"steps": 30, "early_stopping": None})
    trainer, run = new_run(config, [f"run.dir={folder / 'run'}"], Options(single=True))
    trainer.run(run)
    return run


@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.none() | st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_the_one_before_is_used(reference, name, place, bit) -> None:
    file = reference / "checkpoints" / "step-000030" / name
    whole = file.read_bytes()
    content, at = bytearray(whole), int(place * len(whole))
    if bit is None:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    file.write_bytes(content)
    try:
        found, refused = load_latest(reference / "checkpoints")
    finally:
        file.write_bytes(whole)
    assert found.step < 30
    assert "step-000030 is damaged" in refused[0]


def test_the_run_then_ends_as_it_would_have(reference, tmp_path) -> None:
    shutil.copytree(reference, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "checkpoints" / "step-000030" / "state.json").write_text("{}")
    trainer, run, said = resume_run(tmp_path / "run", options=Options(single=True))
    assert trainer.progress.step < 30
    assert "step-000030 is damaged: state.json has 2 bytes" in said[0]
    trainer.run(run)
    assert summary(run)["weights_sha256"] == summary(reference)["weights_sha256"]
    assert metrics(run) == metrics(reference)


def test_none_left_is_an_error_and_changes_nothing(reference, tmp_path) -> None:
    shutil.copytree(reference, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "model.safetensors").write_bytes(b"")
    before = sorted(path.name for path in (tmp_path / "run").rglob("*"))
    with pytest.raises(AllgradError, match="no whole checkpoint is left") as caught:
        resume_run(tmp_path / "run", options=Options(single=True))
    assert caught.value.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == before
