"""Whole runs as real mpirun jobs: one hash at any rank count, and stopping, failing and resuming on the ranks together."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from small_run import STEPS, metrics, summary, write_config

from allgrad.train.run.build import Options, new_run, resume_run

CONFIGS = Path(__file__).parents[2] / "configs"
COMMAND = Path(sys.executable).with_name("allgrad")


def write_images(folder: Path) -> list[str]:
    """Small IDX files, and the overrides that make any image configuration read them."""
    rng = np.random.default_rng(1)
    overrides = ["data.name=idx"]
    for part, count in (("train", 40), ("valid", 12)):
        labels = rng.integers(0, 10, count, np.uint8)
        images = rng.integers(0, 200, (count, 16, 16), np.uint8) // 4 + 5 * labels[:, None, None]
        for kind, array in (("images", images.astype(np.uint8)), ("labels", labels)):
            path = folder / f"{part}-{kind}.idx"
            head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            path.write_bytes(head + array.tobytes())
            overrides.append(f"data.{part}_{kind}={path}")
    return overrides


def shortened(folder: Path) -> dict[str, list[str]]:
    """Each configuration that comes with allgrad: the overrides with which three steps of it take a second."""
    images = [*write_images(folder), "batch.size=12"]
    common = ["train.steps=3", "logging.progress=none", "train.eval_every=null"]
    text = ["model.layers=1", "model.width=32", "data.context=32", "data.valid=1000", "logging.sample=0"]
    resnet = ["model.widths=[4,8,8,8]", "batch.virtual_workers=4"]
    changes = {
        "diamonds": ["batch.size=40"],
        "fashion_mnist_mlp": [*images, "model.hidden=[16]"],
        "fashion_mnist_cnn": [*images, "model.dropout=0.1"],
        "heat_equation": ["batch.size=30", "data.grid=12"],
        "moby_dick": [*text, "model.dropout=0.1"],
        "moby_dick_local": [*text, "train.steps=4", "parallel.reduction.inner_steps=2"],
        "resnet18": [*images, *resnet],
    }
    return {name: [*common, *overrides] for name, overrides in changes.items()}


def train_all(configs, folder):
    """The digest of each of several runs, one after another."""
    from pathlib import Path

    from allgrad.train.run.build import new_run

    digests = {}
    for name, (path, overrides) in configs.items():
        trainer, run = new_run(path, [*overrides, f"run.dir={Path(folder) / name}"])
        digests[name] = trainer.run(run)["weights_sha256"]
    return digests


def test_every_configuration_ends_in_one_hash(mpirun, tmp_path) -> None:
    """On 2 and 3 ranks, and in one process without MPI, which is what --debug runs; local updates on 2 and 4.

    What depends on the number of ranks alone is tested elsewhere (test_data_parallel.py, test_node_memory.py).
    """
    configs = {name: (str(CONFIGS / f"{name}.yaml"), changes) for name, changes in shortened(tmp_path).items()}
    assert sorted(configs) == sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    alone = {}
    for name, (path, changes) in configs.items():
        trainer, run = new_run(path, [*changes, f"run.dir={tmp_path / 'debug' / name}"], Options(single=True))
        alone[name] = trainer.run(run)["weights_sha256"]
    local = {"moby_dick_local": configs.pop("moby_dick_local")}  # its replicas share no memory
    for ranks, memory in ((2, "node"), (3, "rank"), (4, None)):
        here = {name: (path, [*changes, f"parallel.memory={memory}"]) for name, (path, changes) in configs.items()}
        here = (here if memory else {}) | (local if ranks != 3 else {})
        expected = {name: alone[name] for name in here}
        assert mpirun(train_all, ranks, here, str(tmp_path / str(ranks))).values == [expected] * ranks
        if memory:
            found = summary(tmp_path / str(ranks) / "moby_dick")
            assert (found["ranks"], found["memory"]) == (ranks, memory)
            assert 0 <= found["comm_hidden_fraction"] <= 1
    assert alone["moby_dick"] != alone["moby_dick_local"]


# Stopping and going on.


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """The configuration and the folder of a run that never stopped, in one process."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder)
    trainer, run = new_run(config, [f"run.dir={folder / 'run'}"], Options(single=True))
    trainer.run(run)
    return config, run


def stopped(config, run, how, overrides):
    """Train, and after 37 steps send a signal: to this rank, or to mpirun."""
    import os
    import signal
    import time
    from pathlib import Path

    from allgrad.train.callbacks import Callback
    from allgrad.train.run.build import Options, new_run

    def launcher():
        """mpirun: the highest of the launcher's processes above this rank, of which MPICH has two and Open MPI one."""
        above = [os.getppid()]
        while Path(f"/proc/{above[-1]}/comm").read_text().startswith(("mpi", "hydra", "prte", "ompi")):
            above.append(int(Path(f"/proc/{above[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
        return above[-2]

    class Signal(Callback):
        def on_step(self, trainer, result):
            if trainer.progress.step != 37 or trainer.world.rank != trainer.world.size - 1:
                return
            number = getattr(signal, how["signal"])
            target = os.getpid() if how["to"] == "rank" else launcher()
            while number == signal.SIGKILL and not Path(run, "checkpoints", "step-000030").exists():
                time.sleep(0.01)  # rank 0 writes it meanwhile
            os.kill(target, number)
            while not trainer.stop_request.asked:
                time.sleep(0.01)

    trainer, folder = new_run(config, [f"run.dir={run}", *overrides], Options(trainer={"callbacks": [Signal()]}))
    found = trainer.run(folder)
    return [found["interrupted"], found["steps"]]


def assert_like_the_whole(run: Path, whole: Path) -> None:
    assert summary(run)["weights_sha256"] == summary(whole)["weights_sha256"]
    assert summary(run)["eval"] == summary(whole)["eval"]
    assert metrics(run) == metrics(whole)


@pytest.mark.parametrize(
    ("signal", "to", "ranks", "memory", "then", "memory_then"),
    [
        ("SIGTERM", "rank", 2, "node", 3, "rank"),
        ("SIGTERM", "mpirun", 3, "node", 1, "node"),
        ("SIGUSR1", "mpirun", 2, "rank", 4, "node"),
    ],
)
def test_a_signal_stops_all_ranks_at_one_step(
    mpirun, mpi_flavour, whole, tmp_path, signal, to, ranks, memory, then, memory_then
) -> None:
    if (signal, to) == ("SIGTERM", "mpirun") and mpi_flavour[0] == "openmpi":
        pytest.skip("Open MPI's mpirun kills its ranks a quarter of a second after a SIGTERM")
    config, reference = whole
    run = tmp_path / "run"
    every = ["checkpoint.every=null", "checkpoint.every_minutes=10", f"parallel.memory={memory}"]
    first = mpirun(stopped, ranks, str(config), str(run), {"signal": signal, "to": to}, every)
    assert first.values == [[True, 37]] * ranks
    assert f"stopped after 37 of {STEPS} steps" in first.stdout
    assert not (run / "summary.json").exists()
    again = mpirun(COMMAND, then, "resume", str(run), f"parallel.memory={memory_then}")
    assert again.stdout.splitlines()[-1] == f"weights sha256 {summary(reference)['weights_sha256']}"
    assert_like_the_whole(run, reference)


def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint(mpirun, whole, tmp_path) -> None:
    config, reference = whole
    run = tmp_path / "run"
    node = ["parallel.memory=node"]
    killed = mpirun(stopped, 2, str(config), str(run), {"signal": "SIGKILL", "to": "rank"}, node, check=False)
    assert killed.code != 0
    assert killed.values == [None, None]
    trainer, folder, said = resume_run(run, options=Options(single=True))
    assert said == []
    assert trainer.progress.step == 30
    trainer.run(folder)
    assert_like_the_whole(run, reference)


def absent(config, run):
    """Train, and after 5 steps rank 1 does something else."""
    import time

    from allgrad.train.callbacks import Callback
    from allgrad.train.run.build import Options, new_run

    class Absent(Callback):
        def on_step(self, trainer, result):
            if trainer.progress.step == 5:
                watch = trainer.world.engine.monitor
                assert watch.limit == 1000.0
                watch.limit = 3.0  # now that everything is compiled
                while trainer.world.rank == 1:
                    time.sleep(3600)

    overrides = [f"run.dir={run}", "parallel.stall_seconds=1000"]
    trainer, folder = new_run(config, overrides, Options(trainer={"callbacks": [Absent()]}))
    trainer.run(folder)


def test_a_rank_that_stays_away_is_reported_after_the_limit_of_the_configuration(mpirun, whole, tmp_path) -> None:
    job = mpirun(absent, 2, str(whole[0]), str(tmp_path / "run"), check=False)
    assert job.code != 0
    assert "Stall: nothing has moved for 3 s" in job.stderr
    assert "Missing: rank 1" in job.stderr
    assert "time.sleep(3600)" in job.stderr


def test_resume_starts_mpirun(whole, tmp_path, mpi_flavour, run_group, clean_environment) -> None:
    shutil.copytree(whole[1], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    command = [str(COMMAND), "resume", str(tmp_path / "run"), "-n", "2"]
    if mpi_flavour[0] == "openmpi":
        pytest.skip("as root, or with few cores, Open MPI's mpirun needs flags that resume does not add")
    code, out, _ = run_group(command, env=clean_environment({}))
    assert code == 0
    assert "on 2 ranks" in out
    assert_like_the_whole(tmp_path / "run", whole[1])


# Mistakes: one message, once, and the exit code.


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["batch.sizze=3"], 2, "batch.sizze: unknown key"),
        (["data.train=nowhere.npz"], 1, "nowhere.npz: no such file"),
        (["run.dir={whole}", "seed=9"], 2, "seed: 3 there, 9 here"),
        (["batch.virtual_workers=2"], 2, "3 ranks cannot share 2 virtual workers"),
        (["--steps"], 2, "unrecognized arguments: --steps"),
    ],
)
def test_a_mistake_is_said_once(mpirun, whole, tmp_path, words, code, said) -> None:
    config, run = whole
    before = sorted((path, path.read_bytes()) for path in run.rglob("*") if path.is_file())
    words = [f"run.dir={tmp_path / 'new'}", *(word.format(whole=run) for word in words)]
    job = mpirun(COMMAND, 3, "train", str(config), *words, check=False)
    assert job.code == code
    assert job.stderr.count(said) == 1
    assert job.stderr.count("allgrad: error:") == 1
    assert "Traceback" not in job.stderr
    assert not (tmp_path / "new").exists()
    assert sorted((path, path.read_bytes()) for path in run.rglob("*") if path.is_file()) == before


def test_a_damaged_checkpoint_is_named_once_and_the_one_before_is_used(mpirun, whole, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    (run / "summary.json").unlink()
    model = run / "checkpoints" / f"step-{STEPS:06d}" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    job = mpirun(COMMAND, 2, "resume", str(run))
    assert job.stderr.count("model.safetensors has") == 1
    assert "Using the one before it." in job.stderr
    assert_like_the_whole(run, whole[1])
    for path in (run / "checkpoints").iterdir():
        (path / "manifest.json").unlink()
    (run / "summary.json").unlink()
    job = mpirun(COMMAND, 2, "resume", str(run), check=False)
    assert job.code == 1
    assert job.stderr.count("no whole checkpoint is left") == 1
    assert "Traceback" not in job.stderr


def test_only_rank_0_touches_the_folder(mpirun, whole, tmp_path) -> None:
    """The other ranks may have another disk: here they have another working directory."""

    def elsewhere(config, run, home):
        import os

        from allgrad import comm
        from allgrad.train.run.build import new_run, resume_run

        world = comm.init()
        os.makedirs(f"{home}/{world.rank}", exist_ok=True)
        os.chdir(f"{home}/{world.rank}")
        trainer, folder = new_run(config, [f"run.dir={run}", "train.steps=20"])
        trainer.run(folder)
        again, folder, _ = resume_run(run, ["train.steps=24"])
        again.run(folder)
        return sorted(os.listdir("."))

    config, _ = whole
    job = mpirun(elsewhere, 2, str(config), "run", str(tmp_path))
    assert job.values == [["run"], []]
    assert json.loads((tmp_path / "0" / "run" / "summary.json").read_text())["steps"] == 24
