"""Each configuration in examples/launchers trains, and fits the launcher that its comment names."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml
from launcher_examples import FOLDER, ROOT, command, small, write_images

from allgrad.train.config import resolve

NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_there_is_one_for_each_launcher() -> None:
    scripts = {"local.sh", "hostfile.sh", "slurm.sbatch", "pbs.sh", "kubernetes.yaml"}
    assert {f"launch/{script}" for script in scripts} <= {str(path.relative_to(ROOT)) for path in ROOT.glob("launch/*")}
    assert sorted(script.partition(".")[0] for script in scripts) == NAMES
    for script in scripts:
        told = command(script.partition(".")[0])
        assert f"launch/{script}" in told
        assert f"examples/launchers/{script.partition('.')[0]}.yaml" in told


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_in_one_process(name, tmp_path) -> None:
    """With the data staged where the launcher would put them."""
    write_images(tmp_path / "data")
    (tmp_path / "files").symlink_to(ROOT / "src" / "allgrad" / "data" / "files")
    words = ["train", str(FOLDER / f"{name}.yaml"), *small(name, str(tmp_path / "data")), f"run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-m", "allgrad", *words],
        env={**os.environ, "STAGE_TO": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch("weights sha256 [0-9a-f]{64}", done.stdout.splitlines()[-1])


RANKS = {
    "hostfile": lambda: sum(map(int, re.findall(r"node\d:(\d+)", command("hostfile")))),
    "slurm": lambda: product(r"#SBATCH --nodes=(\d+)", r"#SBATCH --ntasks-per-node=(\d+)", file="slurm.sbatch"),
    "pbs": lambda: product(r"select=(\d+)", r"mpiprocs=(\d+)", file="pbs.sh"),
    "kubernetes": lambda: product(r"slotsPerWorker: (\d+)", r"replicas: (\d+) # HERE: pods", file="kubernetes.yaml"),
}


def product(*patterns: str, file: str) -> int:
    text = (ROOT / "launch" / file).read_text()
    one, other = (int(re.search(pattern, text)[1]) for pattern in patterns)
    return one * other


@pytest.mark.parametrize("name", RANKS)
def test_every_rank_that_the_launcher_starts_has_a_worker(name, monkeypatch) -> None:
    monkeypatch.setenv("STAGE_TO", "/scratch")
    config = resolve(FOLDER / f"{name}.yaml")
    assert config.batch.virtual_workers == RANKS[name]()
    assert config.checkpoint.every_minutes is not None
    assert config.run.dir is None, "the launcher names the folder, and finds it again"


@pytest.mark.parametrize("name", NAMES)
def test_it_says_only_what_differs(name) -> None:
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert (FOLDER / written["extends"]).resolve().parent == (ROOT / "configs").resolve()
