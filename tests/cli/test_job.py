"""Jobs that allgrad starts itself: the environment, signals, the outcome, and the last words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from small_run import summary, write_config

from allgrad.cli.job import Outcome, _judge, _who_died, forwarding, run_command
from allgrad.cli.main import main
from allgrad.cli.mpirun import job_environment
from allgrad.cli.processes import alive
from allgrad.train.checkpoint.format import list_checkpoints, read_checkpoint
from allgrad.train.loggers.trace import ON_SIGNAL, take_request

RANKS = [[0, "a", 11], [1, "b", 12]]
MPICH = "=   PID 12 RUNNING AT b\n=   EXIT CODE: 9\n"
OPENMPI = "mpirun noticed that process rank 1 with PID 12 on node b exited on signal 11 (Segmentation fault).\n"
PLUGIN = """
import os, signal
from allgrad.train import Callback, register_callback

class Act(Callback):
    def on_step(self, run, result):
        if run.progress.step == 7 and run.world.rank == {rank}:
            {action}

@register_callback("act")
def act():
    return Act()
"""


@pytest.fixture
def acting(mpi_flavour, tmp_path, clean_environment):
    """acting(action, rank=0) -> (exit code, output, errors) of `train -n 2` in which that rank does something at step 7."""

    def start(action: str, rank: int = 0, **options):
        (tmp_path / "plugin.py").write_text(PLUGIN.format(rank=rank, action=action))
        config = write_config(tmp_path, train={"steps": 20, "early_stopping": None, "callbacks": ["act"]})
        words = [
            "train",
            "-n",
            "2",
            str(config),
            "--plugin",
            str(tmp_path / "plugin.py"),
            f"run.dir={tmp_path / 'run'}",
        ]
        command = [sys.executable, "-P", "-m", "allgrad", *words]
        done = subprocess.run(
            command, env=clean_environment({}), capture_output=True, text=True, timeout=300, check=False, **options
        )
        return done.returncode, done.stdout, done.stderr

    return start


def test_a_whole_job(acting, tmp_path) -> None:
    code, out, _ = acting("pass")
    assert code == 0
    assert summary(tmp_path / "run")["ranks"] == 2
    assert out.splitlines()[-1] == f"weights sha256 {summary(tmp_path / 'run')['weights_sha256']}"


def test_an_exit_code_of_0_without_an_outcome_is_a_failure(acting, tmp_path) -> None:
    """A rank that ends without a word makes some launchers end with 0."""
    code, _, err = acting("os._exit(0)")
    assert code == 1
    assert f"Continue it with `allgrad resume {tmp_path / 'run'} -n 2`." in err


def test_the_rank_that_died_is_named(acting) -> None:
    code, _, err = acting("os.kill(os.getpid(), signal.SIGKILL)", rank=1)
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("allgrad: Rank 1 (process ")
    assert "died: SIGKILL. The run in " in last


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_saves_the_run(mpi_flavour, tmp_path, clean_environment, number) -> None:
    config = write_config(
        tmp_path, train={"steps": 100_000, "early_stopping": None, "eval_every": None, "log_every": 5}
    )
    words = ["train", "-n", "2", str(config), f"run.dir={tmp_path / 'run'}", "logging.progress=plain"]
    out: list[str] = []
    with (
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "allgrad", *words],
            stdout=subprocess.PIPE, stderr=errors, text=True, env=clean_environment({}),
        ) as process,
    ):  # fmt: skip
        for line in process.stdout:
            out.append(line)
            if line.startswith("step 5/"):
                process.send_signal(number)
    assert process.returncode == 4, (tmp_path / "errors").read_text()
    assert any(line.startswith("stopped after ") for line in out)
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[0]
    assert read_checkpoint(newest).step >= 5
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("state", "ended"),
    [("", -signal.SIGKILL), ("running", 4)],
    ids=["before the run begins", "afterwards"],
)
def test_what_a_signal_does(tmp_path, state, ended) -> None:
    """MPICH's handler of SIGUSR1 swallowed the first Ctrl-C while ranks were starting, and SIGUSR2 ended the launcher."""
    file = tmp_path / "outcome.json"
    if state:
        file.write_text(json.dumps({"state": state, "directory": str(tmp_path), "ranks": RANKS}))
    answer = "exit 4" if state else ""
    command = ["sh", "-c", f"trap '{answer}' USR1; echo up; while :; do sleep 0.1; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        with forwarding(process, file, lambda: bool(Outcome.read(file).state)) as asked:
            assert process.stdout.readline() == "up\n"
            signal.raise_signal(signal.SIGUSR2)
            assert asked == []
            assert take_request(tmp_path) == (ON_SIGNAL if state else 0)
            signal.raise_signal(signal.SIGINT)
            assert process.wait(timeout=200) == ended
        assert asked == [signal.SIGINT]


def test_who_died() -> None:
    assert _who_died(MPICH, RANKS) == "Rank 1 (process 12 on b) died: SIGKILL. "
    assert _who_died(OPENMPI, RANKS) == "Rank 1 (process 12 on b) died: SIGSEGV. "
    waited = "Rank 0 (process 11 on a) died: SIGALRM, after it had waited for the other ranks to start or to end. "
    assert _who_died("=   PID 11 RUNNING AT a\n=   EXIT CODE: 14\n", RANKS) == waited
    assert _who_died("PID 99 RUNNING AT c\n", RANKS) == "Rank ? (process 99 on c) failed. "
    assert _who_died("anything", RANKS) == ""
    # The launcher names a rank that it has killed itself.
    assert _who_died(MPICH, RANKS, first=11) == "Rank 0 (process 11 on a) failed. "
    assert _who_died(MPICH, RANKS, first=12) == _who_died(MPICH, RANKS, first=99) == _who_died(MPICH, RANKS)


def test_the_exit_code_is_true(capsys) -> None:
    at = {"directory": "d", "ranks": RANKS}
    assert _judge(0, Outcome("complete", **at), "", 2) == 0
    assert _judge(1, Outcome("stopped", **at), "", 2) == 4
    assert _judge(0, Outcome("running", **at), "", 2) == 1
    assert _judge(3, Outcome("running", **at), "", 2) == 3
    assert _judge(139, Outcome(), "", 2) == 1
    assert capsys.readouterr().err.count("Continue it with `allgrad resume d -n 2`.") == 2


def test_a_run_that_was_complete_is_complete(capsys) -> None:
    """Its last words were written and read by all ranks; what happens to their processes afterwards loses nothing."""
    assert _judge(1, Outcome("complete", "d", RANKS), _who_died(MPICH, RANKS), 2) == 0
    assert capsys.readouterr().err == (
        "allgrad: Rank 1 (process 12 on b) died: SIGKILL. The run was complete before the job failed.\n"
    )


def test_no_process_outlives_the_job(acting, tmp_path) -> None:
    """A rank's child that keeps the job's output open used to keep the job from ending."""
    action = f"""
            import subprocess
            from pathlib import Path
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            Path({str(tmp_path / "child")!r}).write_text(str(child.pid))
            os.kill(os.getpid(), signal.SIGKILL)"""
    code, _, err = acting(action, rank=1)
    assert code == 1
    assert not alive(int((tmp_path / "child").read_text()))
    assert "that the launcher left running" in err


def test_one_blas_thread_unless_told(monkeypatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (job_environment()["OPENBLAS_NUM_THREADS"], job_environment()["OMP_NUM_THREADS"]) == ("1", "3")


def test_a_job_on_one_machine_opens_no_ports(monkeypatch) -> None:
    """UCX opens two for each rank unless it is told to use shared memory only; an allocation may have other machines."""
    for name in ("UCX_TLS", "SLURM_JOB_ID", "PBS_NODEFILE", "LSB_HOSTS", "PE_HOSTFILE"):
        monkeypatch.delenv(name, raising=False)
    assert job_environment()["UCX_TLS"] == "sm,self"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert "UCX_TLS" not in job_environment()


@pytest.mark.parametrize("words", [["-n", "0"], ["-n", "many"], ["-n", "2", "--debug"]])
def test_a_wrong_number_is_found_at_once(tmp_path, words, capsys) -> None:
    assert main(["train", str(write_config(tmp_path)), *words]) == 2
    assert "allgrad: error: " in capsys.readouterr().err


def test_a_job_that_cannot_be_watched_is_ended(tmp_path) -> None:
    """The launcher and its ranks would otherwise run on, with nobody to end them."""
    file = tmp_path / "outcome.json"
    up = tmp_path / "up"
    command = ["sh", "-c", f"sleep 1000 & echo $! $$ > {up}.partial; mv {up}.partial {up}; echo broken > {file}; wait"]
    with pytest.raises(json.JSONDecodeError):
        run_command(command, dict(os.environ), file)
    assert not any(alive(int(process)) for process in up.read_text().split())
