"""Trap 27. `lr: 1e-3` is a number. An unknown key is an error. Two ranks never choose different run directories."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from small_run import write_config

from allgrad.comm import World
from allgrad.train.config import ConfigError, resolve
from allgrad.train.run.directory import create_run_directory


def test_1e_3_is_a_number(tmp_path) -> None:
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace("lr: 0.01", "lr: 1e-3"))
    assert resolve(path).optimizer.lr == 0.001
    assert resolve(path, ["optimizer.lr=1e-4"]).optimizer.lr == 0.0001


def test_an_unknown_key_is_an_error(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"optimizer.weight_decy: unknown key. Did you mean 'weight_decay'"):
        resolve(write_config(tmp_path), ["optimizer.weight_decy=0.1"])


def choose_a_directory(config, home):
    import os
    import time

    from allgrad import comm
    from allgrad.train.run.build import new_run

    os.chdir(home)
    time.sleep(0.6 * comm.init().rank)  # so that their clocks do not say the same second
    return str(new_run(config)[1])


def test_ranks_have_one_directory(mpirun, tmp_path) -> None:
    (tmp_path / "home").mkdir()
    job = mpirun(choose_a_directory, 3, str(write_config(tmp_path)), str(tmp_path / "home"))
    assert len(set(job.values)) == 1
    assert len(list((tmp_path / "home" / "runs").iterdir())) == 1


def test_runs_that_start_in_the_same_second_have_directories_of_their_own(tmp_path, monkeypatch) -> None:
    config = resolve(write_config(tmp_path))
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        directories = list(pool.map(lambda _: create_run_directory(config, World(), "small"), range(8)))
    assert len(set(directories)) == 8
