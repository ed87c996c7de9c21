"""The command in the comment of each of examples/launchers, typed as it stands: it trains on two ranks, by real MPI.

What is faked: the schedulers (`sbatch`, `qsub`, `kubectl`: they do what those do with a script) and how many ranks mpirun
starts. Overrides that make the training small are added where `allgrad` is called.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from launcher_examples import FOLDER, ROOT, command, small, write_images

from allgrad.train.run.build import Options, new_run

SCHEDULERS = {
    "sbatch": """
export SLURM_SUBMIT_DIR=$PWD SLURM_JOB_ID=12 SLURM_JOB_NAME=allgrad SLURM_NTASKS=2 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=n1
cp "$1" spooled && shift && exec bash spooled "$@"
""",
    "qsub": """
IFS=, read -r -a variables <<<"$2"
export "${variables[@]}" PBS_O_WORKDIR=$PWD PBS_JOBID=12.server PBS_JOBNAME=allgrad PBS_NODEFILE=$PWD/nodes
printf 'n1\\nn1\\n' > nodes
cp "$3" spooled && exec bash spooled
""",
    "qstat": "echo '    Resource_List.walltime = 04:00:00'",
    "kubectl": "cat > applied.yaml",
}

# The options of mpirun that say how many ranks run where are taken away: two ranks run here.
MPIRUN = """
unset ${!SLURM_@} ${!PBS_@}
while [ $# -gt 0 ]; do
    case $1 in
        -n | -ppn | -bind-to | -f | -launcher | -launcher-exec | -hosts) shift 2 ;;
        *) break ;;
    esac
done
exec "$MPIRUN" -n 2 "$@"
"""


@pytest.fixture
def typed(clone, mpi_flavour, clean_environment, tmp_path):
    """typed(name, command) types a command in a clone whose fakes end in real programs; the overrides are those of `name`."""
    flavour, mpirun = mpi_flavour
    if flavour != "mpich":
        pytest.skip("the launchers' MPI is MPICH unless they are told otherwise, and the fakes here end in its mpirun")
    shutil.copytree(FOLDER.parent, clone.root / "examples")
    shutil.copytree(ROOT / "configs", clone.root / "configs")
    shutil.copytree(ROOT / "src" / "allgrad" / "data" / "files", clone.root / "src" / "allgrad" / "data" / "files")
    write_images(clone.root / "runs" / "data")
    for name, body in SCHEDULERS.items():
        clone.program(name, body, clone.root / "system")
    clone.program("fakersh", 'shift && exec bash -c "$*"', clone.root / "system")
    clone.program("mpirun", "[ \"$1\" != --version ] || exec echo 'HYDRA build details'\n" + MPIRUN)

    def run(name: str, text: str, images: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        words = shlex.join(small(name, images))
        allgrad = Path(sys.executable).with_name("allgrad")
        # However many cores this machine has, `-n auto` is two ranks.
        two = '[ "$2 $3" != "-n auto" ] || set -- train -n 2 "${@:4}"'
        clone.program("allgrad", f'[ "$1" != train ] || set -- "$@" {words}\n{two}\nexec {allgrad} "$@"')
        environment = clean_environment({"MPIRUN": mpirun, "RSH": "fakersh", **settings})
        environment["PATH"] = f"{clone.root}/system:{os.defpath}"
        return subprocess.run(
            ["bash", "-c", text],
            cwd=clone.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def ended_like_one_process(name: str, run: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the run came to its end on two ranks, in the weights of the same configuration in one process."""
    found = json.loads((run / "summary.json").read_text())
    monkeypatch.setenv("STAGE_TO", str(scratch))
    overrides = [*small(name, str(scratch / "data")), f"run.dir={run}-alone"]
    alone, folder = new_run(FOLDER / f"{name}.yaml", overrides, Options(single=True))
    return found["ranks"] == 2 and found["weights_sha256"] == alone.run(folder)["weights_sha256"]


def test_local(clone, typed, tmp_path, monkeypatch) -> None:
    done = typed("local", command("local"))
    assert done.returncode == 0, done.stderr
    assert ended_like_one_process("local", clone.root / "runs" / "local", tmp_path, monkeypatch)
    again = typed("local", command("local"))
    assert again.returncode == 2
    run = clone.root / "runs" / "local"
    assert f"already holds this run.\nContinue it with `allgrad resume {run}`" in again.stderr


def test_hostfile(clone, typed, tmp_path, monkeypatch) -> None:
    done = typed("hostfile", command("hostfile"))
    assert done.returncode == 0, done.stderr
    assert "16 ranks on node1:8,node2:8; run runs/hostfile" in done.stderr
    run = clone.root / "runs" / "hostfile"
    assert ended_like_one_process("hostfile", run, tmp_path, monkeypatch)
    assert sorted(path.name for path in (run / "logs").iterdir()) == ["rank-0000.log", "rank-0001.log"]


@pytest.mark.parametrize(("name", "file"), [("slurm", "moby_dick.txt.gz"), ("pbs", "diamonds.csv.gz")])
def test_batch_systems(clone, typed, tmp_path, monkeypatch, name, file) -> None:
    scratch = tmp_path / "scratch"
    done = typed(name, command(name).replace("/tmp/allgrad", str(scratch)))
    assert done.returncode == 0, done.stderr
    assert (scratch / "files" / file).is_file()
    run = clone.root / "runs" / "allgrad-12"
    assert (
        f"data:\n  name: {'text' if name == 'slurm' else 'csv'}\n  path: {scratch}/files/{file}"
        in (run / "config.yaml").read_text()
    )
    assert ended_like_one_process(name, run, scratch, monkeypatch)
    assert sorted(path.name for path in (run / "logs").iterdir()) == ["rank-0000.log", "rank-0001.log"]


def test_kubernetes(clone, typed, tmp_path, monkeypatch) -> None:
    """The job that is applied, and what its launcher's container then does."""
    assert typed("kubernetes", command("kubernetes")).returncode == 0
    job = yaml.safe_load((clone.root / "applied.yaml").read_text())
    (launcher,) = job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    settings = {one["name"]: one["value"] for one in launcher["env"]}
    assert settings["STAGE_FROM"].endswith("/allgrad/runs/data"), "the folder of the image's clone on the shared volume"
    mounted = job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert settings["STAGE_TO"] in [mount["mountPath"] for mount in mounted]
    scratch = tmp_path / "scratch"
    (clone.root / "pods").write_text("allgrad-worker-0.allgrad slots=4\nallgrad-worker-1.allgrad slots=4\n")
    words = [*launcher["command"], *launcher["args"]]
    words[words.index("/etc/mpi/hostfile")] = "pods"
    settings |= {"STAGE_FROM": "runs/data", "STAGE_TO": str(scratch), "RSH": "fakersh"}
    done = typed("kubernetes", shlex.join(words), str(scratch / "data"), **settings)
    assert done.returncode == 0, done.stderr
    assert ended_like_one_process("kubernetes", clone.root / "runs" / "kubernetes", scratch, monkeypatch)


def test_hostfile_over_two_hosts(clone, two_hosts, clean_environment, tmp_path, monkeypatch) -> None:
    """Nothing is faked but the network between the hosts and the `ssh` that reaches them."""
    allgrad = Path(sys.executable).with_name("allgrad")
    for name in ("mpirun", "hydra_pmi_proxy", "allgrad"):
        (clone.bin / name).unlink(missing_ok=True)
        (clone.bin / name).symlink_to(allgrad.with_name(name))
    shutil.copytree(FOLDER.parent, clone.root / "examples")
    shutil.copytree(ROOT / "configs", clone.root / "configs")
    (clone.root / "hosts").write_text("nodea:2\nnodeb:1\n")
    text = command("hostfile").splitlines()[1] + " " + shlex.join(small("hostfile", ""))
    environment = clean_environment({"RSH": str(two_hosts.folder / "rsh"), "INTERFACE": "eth0"})
    words = [*two_hosts._enter("nodea"), f"--wd={clone.root}", "bash", "-c", text]
    sent = two_hosts.bytes_sent()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    run = clone.root / "runs" / "hostfile"
    assert json.loads((run / "summary.json").read_text())["ranks"] == 3
    assert all(count > sent[name] for name, count in two_hosts.bytes_sent().items())
    assert sorted(path.name for path in (run / "logs").iterdir()) == [f"rank-000{rank}.log" for rank in range(3)]
    assert "3 ranks" in (run / "logs" / "rank-0000.log").read_text()
    assert typed_again(words, environment, run)


def typed_again(words: list[str], environment: dict[str, str], run: Path) -> bool:
    """Whether the same command goes on with a run that was killed between its last checkpoint and its summary."""
    digest = json.loads((run / "summary.json").read_text())["weights_sha256"]
    (run / "summary.json").unlink()
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode == 0 and f"weights sha256 {digest}" in done.stdout
