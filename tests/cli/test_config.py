"""`allgrad config` and `allgrad ranks`: what they print, and how they refuse."""

from __future__ import annotations

import json

import pytest
import yaml

from allgrad.cli.main import main
from allgrad.comm import cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Set the number of physical cores and the container's grant."""

    def build(physical: int, granted: float) -> None:
        monkeypatch.setattr(cores, "physical_cores", lambda cpus: physical)
        monkeypatch.setattr(cores, "quota", lambda: granted)

    return build


def test_the_resolved_configuration_is_yaml_with_the_overrides_in_it(run, capsys) -> None:
    assert main(["config", *run, "seed=41", "optimizer.lr=1e-4"]) == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert resolved["seed"] == 41
    assert resolved["optimizer"]["lr"] == 1e-4


def test_the_schema_is_json_and_knows_the_plugins(run, capsys) -> None:
    assert main(["config", "--schema", *run[1:]]) == 0
    out = capsys.readouterr().out
    assert "batch" in json.loads(out)["properties"]
    assert "cli_test_model" in out


@pytest.mark.parametrize("argv", [["config"], ["config", "--schema", "x.yaml"], ["config", "--schema", "--reference"]])
def test_a_file_or_the_schema_or_the_reference(argv, capsys) -> None:
    assert main(argv) == 2
    assert "exactly one of CONFIG, --schema and --reference" in capsys.readouterr().err


def test_the_reference_knows_the_plugins(run, capsys) -> None:
    assert main(["config", "--reference", *run[1:]]) == 0
    assert "### `model: {name: cli_test_model}`" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["config", "ranks"])
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["missing.yaml"], "missing.yaml"),
        (["RUN", "optimizer.lrr=1"], "lrr"),
        (["RUN", "seed=many"], "many"),
        (["RUN", "--plugin", "gone.py"], "gone.py"),
    ],
)
def test_mistakes_are_messages(command, argv, words, run, capsys) -> None:
    assert main([command, *(part for arg in argv for part in (run if arg == "RUN" else [arg]))]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("physical", "granted", "blas_threads", "expected"),
    [(64, float("inf"), 1, 4), (3, float("inf"), 1, 3), (64, 2.5, 1, 2), (8, float("inf"), 3, 2), (1, 0.5, 1, 1)],
)
def test_ranks_are_cores_over_threads_at_most_virtual_workers(
    physical, granted, blas_threads, expected, run, machine, capsys
) -> None:
    machine(physical, granted)
    assert main(["ranks", *run, f"parallel.blas_threads={blas_threads}"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
