"""A run directory that is deleted under the run, stray leftovers in it, and a reader beside a writer."""

from __future__ import annotations

import shutil
import threading

import numpy as np
from runs import resume, train
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.checkpoint import format
from allgrad.train.checkpoint.format import list_checkpoints, load_latest
from allgrad.train.checkpoint.writer import CheckpointWriter


def test_a_deleted_directory_is_an_error(tmp_path, monkeypatch, capsys) -> None:
    config = write_config(tmp_path, train={"early_stopping": None}, checkpoint={"every": None})
    (tmp_path / "plugin.py").write_text(
        "import shutil\n"
        "from allgrad.train import Callback, register_callback\n"
        "class Delete(Callback):\n"
        "    def on_step(self, run, result):\n"
        "        while run.progress.step == 20 and run.directory.exists():\n"  # a checkpoint may be written meanwhile
        "            shutil.rmtree(run.directory, ignore_errors=True)\n"
        "@register_callback('delete')\n"
        "def delete(): return Delete()\n"
    )
    words = [str(config), "train.callbacks=[delete]", "--plugin", str(tmp_path / "plugin.py")]
    assert main(["train", *words, f"run.dir={tmp_path / 'run'}"]) == 1
    err = capsys.readouterr().err  # the thread that writes a checkpoint may be the first to notice
    assert "it was deleted while the run was writing to it" in err or "Cannot write the checkpoint" in err


def test_leftovers_do_not_block_a_resume(tmp_path) -> None:
    config = write_config(tmp_path, train={"steps": 20, "early_stopping": None}, checkpoint={"every": 5, "keep": 2})
    train(config, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    oldest = list_checkpoints(checkpoints)[-1]
    shutil.move(oldest, tmp_path / "moved")
    oldest.symlink_to(tmp_path / "moved")
    (checkpoints / ".step-000025.partial").write_text("stray")
    assert resume(tmp_path / "run", "train.steps=30")["steps"] == 30
    assert (tmp_path / "moved" / "manifest.json").exists()


def test_a_reader_beside_a_writer_always_finds_one(tmp_path) -> None:
    """The same step is written again and again, so for moments its directory is not there."""
    done = threading.Event()

    def write() -> None:
        with CheckpointWriter(tmp_path, asynchronous=False) as writer:
            for number in range(60):
                writer.save(1, model={"w": np.full(3, number)}, training={}, state={})
        done.set()

    with CheckpointWriter(tmp_path) as first:
        first.save(1, model={"w": np.zeros(3)}, training={}, state={})
    thread = threading.Thread(target=write)
    thread.start()
    looks = 0
    while not done.is_set():
        assert load_latest(tmp_path)[0] is not None
        looks += 1
    thread.join()
    assert looks


def test_a_replacement_that_ends_between_two_looks(tmp_path, monkeypatch) -> None:
    """The first look finds no checkpoint, because it is being replaced; the second one finds that nothing is being replaced."""
    with CheckpointWriter(tmp_path, asynchronous=False) as writer:
        writer.save(1, model={"w": np.zeros(3)}, training={}, state={})
    found = format.list_checkpoints(tmp_path)
    looks = iter([[], found])
    monkeypatch.setattr(format, "list_checkpoints", lambda _: next(looks))
    assert load_latest(tmp_path)[0] is not None


def test_a_checkpoint_that_was_replaced_twice_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch) -> None:
    """The second one may get the inode of the one that the reader began with, if that is free by then."""
    with CheckpointWriter(tmp_path, asynchronous=False) as writer:
        writer.save(1, model={"w": np.zeros(3)}, training={}, state={})
        read, replacements = format._read, iter([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])

        def replaced_meanwhile(path) -> bytes:
            if path.name == format.MODEL:
                for number in next(replacements, ()):
                    writer.save(1, model={"w": np.full(3, number)}, training={}, state={})
            return read(path)

        monkeypatch.setattr(format, "_read", replaced_meanwhile)
        found = load_latest(tmp_path)[0]
    assert found is not None
    assert found.model["w"].tolist() == [6.0] * 3


def test_a_run_that_a_signal_stopped_does_not_end_like_a_finished_one(tmp_path, monkeypatch, capsys) -> None:
    config = write_config(tmp_path, train={"early_stopping": None})
    (tmp_path / "plugin.py").write_text(
        "import os, signal\n"
        "from allgrad.train import Callback, register_callback\n"
        "class Stop(Callback):\n"
        "    def on_step(self, run, result):\n"
        "        if run.progress.step == 5: os.kill(os.getpid(), signal.SIGTERM)\n"
        "@register_callback('stop')\n"
        "def stop(): return Stop()\n"
    )
    plugin = ["--plugin", str(tmp_path / "plugin.py")]
    assert main(["train", str(config), "train.callbacks=[stop]", *plugin, f"run.dir={tmp_path / 'run'}"]) == 4
    assert f"Continue with `allgrad resume {tmp_path / 'run'}`" in capsys.readouterr().out
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert f"was made with plugins, which are not loaded unasked. Pass --plugin {tmp_path}" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "run"), *plugin, "train.callbacks=[]"]) == 0
