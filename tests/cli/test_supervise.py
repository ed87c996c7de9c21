"""Supervised runs: started again after a failure, to the same weights; given up where a restart changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runs import train
from small_run import summary, write_config

from allgrad.cli.main import main
from allgrad.cli.supervise import continuation
from allgrad.train.checkpoint.format import list_checkpoints

PLUGIN = """
import os, signal, time
from pathlib import Path
from allgrad.train import Callback, register_callback

class Act(Callback):
    def on_step(self, run, result):
        for step, rank, once, action in {actions!r}:
            mark = Path({place!r}, "done-%d-%d" % (step, rank))
            if run.progress.step == step and run.world.rank == rank and not (once and mark.exists()):
                mark.touch()
                exec(action)

@register_callback("act")
def act():
    return Act()
"""


ALLGRAD = [sys.executable, "-P", "-m", "allgrad"]


@pytest.fixture
def supervised(tmp_path, clean_environment, monkeypatch, capfd):
    """supervised([(step, rank, once, action), ...], *options, ranks=None) -> (exit code, errors) of a supervised `train`."""

    def start(actions, *options: str, ranks=None, overrides=()):
        (tmp_path / "plugin.py").write_text(PLUGIN.format(actions=actions, place=str(tmp_path)))
        train = {"steps": 40, "early_stopping": None, "callbacks": ["act"]}
        # A checkpoint is on the disk before a later step kills.
        config = write_config(tmp_path, train=train, checkpoint={"asynchronous": False})
        on_ranks = [] if ranks is None else ["-n", str(ranks)]
        words = [
            "train",
            *on_ranks,
            str(config),
            "--plugin",
            str(tmp_path / "plugin.py"),
            f"run.dir={tmp_path / 'run'}",
        ]
        clean = clean_environment({})
        for name in set(os.environ) - set(clean):
            monkeypatch.delenv(name)
        for name, value in clean.items():
            monkeypatch.setenv(name, value)
        code = main(["supervise", "--pause", "0", *options, "--", *ALLGRAD, *words, *overrides])
        return code, capfd.readouterr().err

    return start


def test_killed_ranks_cost_no_bit(mpi_flavour, supervised, tmp_path) -> None:
    kill = "os.kill(os.getpid(), signal.SIG{})".format
    actions = [(7, 1, True, kill("KILL")), (13, 0, True, kill("SEGV")), (24, 1, True, "os._exit(0)")]
    code, err = supervised(actions, ranks=2)
    assert code == 0, err
    assert err.count("starting again from") == 3
    assert "starting again from the beginning in 0 s" in err
    assert "starting again from the checkpoint of step 10 in 0 s" in err
    steps = {"train.steps": 40, "train.early_stopping": "null"}
    calm = train(write_config(tmp_path), tmp_path / "calm", *(f"{key}={value}" for key, value in steps.items()))
    assert summary(tmp_path / "run")["weights_sha256"] == calm["weights_sha256"]


def test_a_run_that_was_made_and_has_not_reported_is_continued(tmp_path, clean_environment) -> None:
    """A rank died between the making of the run's directory and the first report: it was started anew, and refused."""
    (tmp_path / "plugin.py").write_text(
        "import os, signal\nfrom pathlib import Path\nfrom allgrad.cli import train\n"
        f"mark = Path({str(tmp_path / 'done')!r})\nbefore = train.report_outcome\n"
        "def report(world, directory, state):\n"
        "    if not mark.exists():\n        mark.touch()\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    before(world, directory, state)\ntrain.report_outcome = report\n"
    )
    allgrad = [sys.executable, "-P", "-m", "allgrad"]
    words = [
        "train",
        str(write_config(tmp_path)),
        "--plugin",
        str(tmp_path / "plugin.py"),
        f"run.dir={tmp_path / 'run'}",
    ]
    command = [*allgrad, "supervise", "--pause", "0", "--", *allgrad, *words, "train.steps=3"]
    done = subprocess.run(command, env=clean_environment({}), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("starting again from the beginning") == 1


def test_the_same_error_twice_is_final(supervised) -> None:
    code, err = supervised([(12, 0, False, "raise RuntimeError('the disk of the moon is full')")])
    assert code == 1
    assert err.count("starting again") == 1
    assert (
        "failed twice with the same error at the checkpoint of step 10: RuntimeError: the disk of the moon is full"
        in err
    )


def test_failures_without_progress_are_counted(supervised) -> None:
    code, err = supervised([(12, 0, False, "os.kill(os.getpid(), signal.SIGKILL)")], "--retries", "2")
    assert code == 128 + signal.SIGKILL
    assert err.count("starting again") == 1
    assert "failed 2 times in a row without getting past the checkpoint of step 10" in err


def test_a_mistake_is_not_repeated(supervised, tmp_path) -> None:
    code, err = supervised([], overrides=["optimizer.lr=fast"])
    assert code == 2
    assert "ended with exit code 2, which a restart would not change" in err
    assert not (tmp_path / "run").exists()


def test_asked_to_stop_it_stops(supervised, tmp_path) -> None:
    """The signal reaches the supervisor, whose number the plugin finds in the environment of the ranks' parents."""
    action = "pid = int(os.environ['ALLGRAD_TEST_SUPERVISOR']); os.kill(pid, signal.SIGTERM); time.sleep(0.5)"
    wrapper = tmp_path / "wrapper.sh"
    wrapper.write_text('#!/bin/sh\nexport ALLGRAD_TEST_SUPERVISOR=$$\nexec "$@"\n')
    wrapper.chmod(0o755)
    (tmp_path / "plugin.py").write_text(PLUGIN.format(actions=[(12, 0, True, action)], place=str(tmp_path)))
    config = write_config(
        tmp_path, train={"steps": 4000, "early_stopping": None, "callbacks": ["act"], "eval_every": None}
    )
    allgrad = [sys.executable, "-P", "-m", "allgrad"]
    words = ["train", str(config), "--plugin", str(tmp_path / "plugin.py"), f"run.dir={tmp_path / 'run'}"]
    command = [str(wrapper), *allgrad, "supervise", "--", *allgrad, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 4, done.stderr
    assert "starting again" not in done.stderr
    assert list_checkpoints(tmp_path / "run" / "checkpoints")


def test_what_is_not_a_run_of_ours_is_started_again_as_it_is(tmp_path) -> None:
    (tmp_path / "config.yaml").touch()
    assert continuation(["mpirun", "-n", "2", "allgrad", "train", "a.yaml", "x=1", "--anomaly"], tmp_path) == [
        "mpirun", "-n", "2", "allgrad", "resume", str(tmp_path), "--anomaly",
    ]  # fmt: skip
    assert continuation(["python", "train.py", "train"], tmp_path) == ["python", "train.py", "train"]
    words = ["allgrad", "train", "a.yaml", "seed=1", "-n", "2", "--plugin", "p.py"]
    assert continuation(words, tmp_path) == ["allgrad", "resume", str(tmp_path), "-n", "2", "--plugin", "p.py"]
    assert continuation(words, tmp_path / "not-made-yet") == words
    (tmp_path / "config.yaml").unlink()
    assert continuation(["allgrad", "train", "a.yaml"], tmp_path) == ["allgrad", "train", "a.yaml"]


def test_nothing_is_left_of_an_attempt(tmp_path, capfd) -> None:
    """Whatever the command leaves running is ended before it is started again."""
    script = tmp_path / "leave.sh"
    script.write_text(f"sleep 1000 & echo $! >> {tmp_path}/left; exit 1\n")
    assert main(["supervise", "--retries", "2", "--pause", "0", "--", "sh", str(script)]) == 1
    left = [int(pid) for pid in (tmp_path / "left").read_text().split()]
    assert len(left) == 2
    for pid in left:
        assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    assert "the job: failed 2 times in a row without getting past the beginning" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--retries", "0", "--", "true"], "--retries must be at least 1"),
        ([], "The command to supervise is missing"),
        (["--", "/no/such/program"], "Cannot start '/no/such/program': No such file or directory."),
    ],
)
def test_mistakes(words, said, capsys) -> None:
    assert main(["supervise", *words]) == 2
    assert said in capsys.readouterr().err
