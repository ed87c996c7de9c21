"""A run's folder: made once, never over anything, and made ready for a run that goes on."""

from __future__ import annotations

import pytest
from small_run import write_config

from allgrad.comm import World
from allgrad.train.config import resolve
from allgrad.train.run.agreement import SharedError
from allgrad.train.run.directory import begin_again, new_folder, open_folder, write_failure


def test_a_folder_in_which_a_launcher_has_begun_its_logs_is_free(tmp_path) -> None:
    (tmp_path / "run" / "logs").mkdir(parents=True)
    config = resolve(write_config(tmp_path), [f"run.dir={tmp_path / 'run'}"])
    folder = new_folder(config, World(), "small")
    assert resolve(folder / "config.yaml").model_dump() == config.model_dump()
    with pytest.raises(SharedError, match="holds this run already"):
        new_folder(config, World(), "small")


def test_names(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path)
    assert new_folder(resolve(config), World(), "small").name.startswith("small-")
    assert new_folder(resolve(config, ["run.name=mine"]), World(), "small").name.startswith("mine-")
    assert new_folder(resolve(config, ["run.dir=a/b/c"]), World(), "small") == tmp_path / "a/b/c"


def test_a_run_that_goes_on_keeps_what_it_reported(tmp_path) -> None:
    config = resolve(write_config(tmp_path), [f"run.dir={tmp_path / 'run'}"])
    folder = new_folder(config, World(), "small")
    write_failure(folder)("the first cause")
    for name in ("summary.json", "metrics.jsonl"):
        (folder / name).write_text("{}")
    assert (folder / "failure.txt").read_text() == "the first cause"
    begin_again(open_folder(folder), config, from_the_start=False)
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "metrics.jsonl"]
    begin_again(folder, config, from_the_start=True)
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    with pytest.raises(SharedError, match="is not the folder of a run"):
        open_folder(tmp_path)
