"""A run's directory: created once, never over anything, owned by one job, and made ready for a run that continues."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from small_run import write_config

from allgrad.comm import World
from allgrad.errors import AllgradError
from allgrad.train.config import resolve
from allgrad.train.run.directory import (
    create_run_directory,
    failure_writer,
    lock_run,
    open_run_directory,
    prepare_resume,
    recorded_plugins,
    unlock_run,
)


def test_a_directory_in_which_a_launcher_has_begun_its_logs_is_free(tmp_path) -> None:
    (tmp_path / "run" / "logs").mkdir(parents=True)
    config = resolve(write_config(tmp_path), [f"run.dir={tmp_path / 'run'}"])
    directory = create_run_directory(config, World(), "small")
    assert resolve(directory / "config.yaml").model_dump() == config.model_dump()
    with pytest.raises(AllgradError, match=r"already holds this run.\nContinue it with `allgrad resume"):
        create_run_directory(config, World(), "small")


def test_names(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path)
    assert create_run_directory(resolve(config), World(), "small").name.startswith("small-")
    assert create_run_directory(resolve(config, ["run.name=mine"]), World(), "small").name.startswith("mine-")
    where = f"run.dir={tmp_path}/a/b/c"
    assert create_run_directory(resolve(config, [where]), World(), "small") == tmp_path / "a" / "b" / "c"


def test_a_resumed_run_keeps_what_it_reported(tmp_path) -> None:
    config = resolve(write_config(tmp_path), [f"run.dir={tmp_path / 'run'}"])
    directory = create_run_directory(config, World(), "small")
    failure_writer(directory)("the first cause")
    for name in ("summary.json", "metrics.jsonl"):
        (directory / name).write_text("{}")
    assert (directory / "failure.txt").read_text() == "the first cause"
    prepare_resume(open_run_directory(directory), config, from_the_start=False)
    assert sorted(path.name for path in directory.iterdir()) == [".lock", "config.yaml", "metrics.jsonl"]
    prepare_resume(directory, config, from_the_start=True)
    assert sorted(path.name for path in directory.iterdir()) == [".lock", "config.yaml"]
    with pytest.raises(AllgradError, match="is not a run's directory"):
        open_run_directory(tmp_path)
    with pytest.raises(AllgradError, match="There is no directory"):
        open_run_directory(tmp_path / "nowhere")


HOLD = """
import sys
from pathlib import Path
from allgrad.train.run.directory import lock_run
lock_run(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_owner_whose_death_frees_it(tmp_path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(AllgradError, match=rf"is in use by process {process.pid} on "):
            lock_run(tmp_path)
        process.kill()
    lock_run(tmp_path)
    lock_run(tmp_path)  # it is ours already
    unlock_run(tmp_path)
    unlock_run(tmp_path)


def test_what_plugins_a_run_was_made_with(tmp_path) -> None:
    assert recorded_plugins(tmp_path) == {}
    (tmp_path / "provenance.json").write_text(json.dumps({"plugins": {"mine.py": "ab12"}}))
    assert recorded_plugins(tmp_path) == {"mine.py": "ab12"}
    (tmp_path / "provenance.json").write_text("[]")
    assert recorded_plugins(tmp_path) == {}
