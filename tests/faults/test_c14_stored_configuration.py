"""What a configuration stores or names stays where it belongs: no secrets of the environment, no names that leave `runs/`."""

from __future__ import annotations

import pytest
from small_run import write_config

from allgrad.train.config import ConfigError, dump_yaml, resolve


@pytest.mark.parametrize("reference", ["${env:SECRET}", "${oc.env:SECRET}", "x${env:SECRET}", "${model.activation}"])
def test_a_secret_of_the_environment_is_not_stored(tmp_path, monkeypatch, reference: str) -> None:
    monkeypatch.setenv("SECRET", "relu")
    path = write_config(tmp_path, model={"activation": "${env:SECRET}"} if "model" in reference else {})
    with pytest.raises(ConfigError, match=r"accepted only in a path|is neither \$\{section.key\} nor"):
        resolve(path, [f"run.name={reference}"])


def test_a_path_may_come_from_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PLACE", str(tmp_path))
    config = resolve(write_config(tmp_path), ["data.train=${env:PLACE}/data.npz"])
    assert config.data.train == str(tmp_path / "data.npz")
    assert "env:" not in dump_yaml(config)


@pytest.mark.parametrize("name", ["../..", "..", ".", "a/b", "/tmp", "''"])
def test_a_run_is_named_by_one_name(tmp_path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"run.name: expected a name without slashes"):
        resolve(write_config(tmp_path), [f"run.name={name}"])


@pytest.mark.parametrize(
    "key", ["parallel.stall_seconds", "optimizer.lr", "checkpoint.every_minutes", "optimizer.clip_norm"]
)
@pytest.mark.parametrize("value", [".inf", ".nan", "1e999"])
def test_numbers_are_finite(tmp_path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        resolve(write_config(tmp_path), [f"{key}={value}"])
