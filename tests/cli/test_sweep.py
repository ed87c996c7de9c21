"""`allgrad sweep`: the combinations, what is printed, what is started, skipped and given up."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from allgrad.cli.main import main
from allgrad.cli.sweep import name_of, points
from allgrad.errors import UsageError
from allgrad.train.config import dump_yaml, resolve

if TYPE_CHECKING:
    from pathlib import Path


FAKE = """#!/bin/bash
echo "$*" >> "{log}"
for word in "$@"; do
    case $word in
        run.dir=*seed=3*)
            mkdir -p "${{word#run.dir=}}" && cp "{log}.yaml" "${{word#run.dir=}}/config.yaml"
            exit 5 ;;
        run.dir=* | */seed=*)
            mkdir -p "${{word#run.dir=}}"
            echo '{{"state": "complete", "directory": "here"}}' > "$ALLGRAD_OUTCOME.partial"
            mv "$ALLGRAD_OUTCOME.partial" "$ALLGRAD_OUTCOME" # whole at once, as a run's is
            echo '{{"steps": 10, "seconds": 1.25, "eval": {{"loss": 0.123456789}}}}' > "${{word#run.dir=}}/summary.json" ;;
    esac
done
"""


@pytest.fixture
def mpirun(run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put an `mpirun` on PATH that notes its call and finishes the run, except that seed 3 stops half-way once."""
    log = tmp_path / "calls"
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mpirun").write_text(FAKE.format(log=log))
    (folder / "mpirun").chmod(0o755)
    monkeypatch.setattr("allgrad.cli.mpirun.find_mpirun", lambda: str(folder / "mpirun"))
    (tmp_path / "calls.yaml").write_text(dump_yaml(resolve(run[0], ["seed=3"], plugins=[run[2]])))
    return lambda: [line for line in log.read_text().splitlines() if "--version" not in line] if log.exists() else []


def test_every_combination_the_last_key_fastest() -> None:
    assert list(points(["a=1,2", "b=x"])) == [["a=1", "b=x"], ["a=2", "b=x"]]
    assert list(points(["a=1,2", "b=3,4"])) == [["a=1", "b=3"], ["a=1", "b=4"], ["a=2", "b=3"], ["a=2", "b=4"]]


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("w=[8,8],[16]", ["[8,8]", "[16]"]),
        ("m={name: a, width: 2},{name: b}", ["{name: a, width: 2}", "{name: b}"]),
        ("s='a,b',c", ["'a,b'", "c"]),
        ("p=x=y,z", ["x=y", "z"]),
    ],
)
def test_values_with_commas_of_their_own(override, values) -> None:
    key = override.partition("=")[0]
    assert list(points([override])) == [[f"{key}={value}"] for value in values]


@pytest.mark.parametrize("override", ["seed", "=1", "seed=", "seed=1,,2", "seed=1,", "w=[8,16"])
def test_what_cannot_be_read_is_refused(override) -> None:
    with pytest.raises(UsageError, match="expected key=value"):
        points([override])


def test_folders_differ_where_values_do() -> None:
    assert name_of(["data.path=/tmp/a b"]) == "data.path=_tmp_a_b"
    names = {name_of(point) for point in points(["lr=1e-3,3e-4", "seed=1,2,3"])}
    assert len(names) == 6


def test_print_mpirun_prints_commands_and_starts_nothing(run, tmp_path, mpirun, capsys) -> None:
    assert main(["sweep", *run, "seed=1,2", "-n", "2", "--to", str(tmp_path / "out"), "--print", "mpirun"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[0].rpartition("/")[2] for line in lines] == ["mpirun"] * 2
    assert [line[1:3] for line in lines] == [["-n", "2"]] * 2
    assert [line[line.index("train") + 2 : -2] for line in lines] == [
        [f"seed={seed}", f"run.dir={tmp_path}/out/seed={seed}"] for seed in (1, 2)
    ]
    assert mpirun() == []


def test_print_sbatch_prints_what_a_shell_takes(run, tmp_path, mpirun, capsys) -> None:
    assert main(["sweep", *run, "seed=1,2", "--to", str(tmp_path / "o ut"), "--print", "sbatch"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [f"RUN={tmp_path}/o ut/seed={seed}" for seed in (1, 2)]
    assert [line[3:6] for line in lines] == [["launch/slurm.sbatch", run[0], f"seed={s}"] for s in (1, 2)]
    assert all(line[1] == "sbatch" and line[2].startswith("--ntasks=") for line in lines)
    assert mpirun() == []


def test_points_are_what_slurm_reads(run, capsys) -> None:
    assert main(["sweep", *run, "optimizer.lr=1e-3,3e-4", "seed=7", "--points"]) == 0
    assert capsys.readouterr().out == "optimizer.lr=1e-3 seed=7\noptimizer.lr=3e-4 seed=7\n"


def test_one_after_another_and_finished_ones_are_skipped(run, tmp_path, mpirun, capsys) -> None:
    command = ["sweep", *run, "--to", str(tmp_path / "out"), "-n", "2"]
    assert main([*command, "seed=1,2"]) == 0
    assert len(mpirun()) == 2
    assert main([*command, "seed=1,2,4"]) == 0
    assert len(mpirun()) == 3
    out = capsys.readouterr().out
    assert "seed=2 is already finished" in out
    assert [line.split() for line in out.splitlines()[-4:]] == [
        ["seed", "steps", "seconds", "train_loss", "loss"],
        *([str(seed), "10", "1.25", "None", "0.12346"] for seed in (1, 2, 4)),
    ]


def test_a_run_that_fails_ends_the_sweep(run, tmp_path, mpirun, capsys) -> None:
    assert main(["sweep", *run, "--to", str(tmp_path / "out"), "seed=1,3,4"]) == 1
    assert "seed=3 did not finish (exit code 1)" in capsys.readouterr().err
    assert len(mpirun()) == 2
    assert main(["sweep", *run, "--to", str(tmp_path / "out"), "seed=1,3,4"]) == 0
    assert f" resume {tmp_path}/out/seed=3 " in mpirun()[2]
    assert len(mpirun()) == 4


def test_folders_and_table_say_what_varies(run, tmp_path, mpirun, capsys) -> None:
    assert main(["sweep", *run, "--to", str(tmp_path / "out"), "batch.size=32", "optimizer.lr=1,2", "seed=1,2"]) == 0
    names = [f"optimizer.lr={lr},seed={seed}" for lr in (1, 2) for seed in (1, 2)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert capsys.readouterr().out.splitlines()[-5].split()[:3] == ["optimizer.lr", "seed", "steps"]
    assert main(["sweep", *run, "--to", str(tmp_path / "one"), "batch.size=32"]) == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["batch.size=32"]


def test_results_of_another_configuration_are_not_taken_for_this_ones(run, tmp_path, mpirun, capsys) -> None:
    command = ["sweep", *run, "--to", str(tmp_path / "out"), "seed=1,3"]
    assert main(command) == 1
    (tmp_path / "run.yaml").write_text((tmp_path / "run.yaml").read_text().replace("steps: 10", "steps: 20"))
    calls = mpirun()
    capsys.readouterr()
    assert main(command) == 2
    err = capsys.readouterr().err
    assert (
        f"{tmp_path}/out/seed=3 already holds a run with another configuration:\n  train.steps: 10 there, 20 here\n"
        in err
    )
    assert mpirun() == calls


@pytest.mark.parametrize("override", ["seed=1,1", "run.name='a b','a:b'"])
def test_two_runs_never_share_a_folder(override, run, mpirun, capsys) -> None:
    assert main(["sweep", *run, override]) == 2
    assert "Two of the combinations are equal" in capsys.readouterr().err
    assert mpirun() == []


def test_a_mistake_in_the_last_run_is_found_before_the_first(run, mpirun, capsys) -> None:
    assert main(["sweep", *run, "seed=1,2,many"]) == 2
    assert "many" in capsys.readouterr().err
    assert main(["sweep", *run, "seed=1", "-n", "0"]) == 2
    assert mpirun() == []
