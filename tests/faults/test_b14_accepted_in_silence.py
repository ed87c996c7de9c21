"""What the user did not mean is not accepted in silence: `~`, unmatched patterns, YAML 1.1's numbers."""

from __future__ import annotations

import os

import pytest
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.config import ConfigError, resolve


def test_the_home_directory_is_expanded(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write_config(tmp_path)
    assert resolve(path, ["run.dir=~/x"]).run.dir == str(tmp_path / "home" / "x")
    assert resolve(path, ["data.train=~/x.npz"]).data.train == str(tmp_path / "home" / "x.npz")


def test_paths_are_relative_to_the_file_that_says_them(tmp_path, monkeypatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = write_config(tmp_path / "configs", data={"train": "data.npz"})
    (tmp_path / "above.yaml").write_text("extends: configs/small.yaml\ndata: {valid: more.npz}\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = resolve(os.path.relpath(path), ["data.valid=here.npz", "run.dir=run"])
    assert config.data.train == str(tmp_path / "configs" / "data.npz")
    assert config.data.valid == str(tmp_path / "elsewhere" / "here.npz")
    assert config.run.dir == str(tmp_path / "elsewhere" / "run")
    config = resolve(tmp_path / "above.yaml")
    assert config.data.train == str(tmp_path / "configs" / "data.npz")
    assert config.data.valid == str(tmp_path / "more.npz")


@pytest.mark.parametrize("override", ["seed=010", "seed=0x1F", "seed=0b1", "train.steps=1:30", "seed=1_0"])
def test_numbers_that_readers_of_yaml_disagree_on_are_refused(tmp_path, override: str) -> None:
    with pytest.raises(ConfigError, match="expected an integer, got '"):
        resolve(write_config(tmp_path), [override])


def test_groups_of_three_digits_are_one_number(tmp_path) -> None:
    assert resolve(write_config(tmp_path), ["seed=1_000_000"]).seed == 1_000_000


def test_a_pattern_that_matches_no_parameter_is_an_error(tmp_path, capsys) -> None:
    path, run = write_config(tmp_path), tmp_path / "run"
    assert main(["train", str(path), "optimizer.no_decay=[vectors,'*.biass']", f"run.dir={run}"]) == 2
    said = capsys.readouterr().err
    assert "optimizer.no_decay: '*.biass' matches no parameter" in said
    assert not run.exists()
