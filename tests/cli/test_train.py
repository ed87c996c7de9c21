"""`allgrad train`, `resume`, `eval`, `sample`, `digest` in one process: what is printed, the debugger, and mistakes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from notices import without_notices
from small_run import STEPS, metrics, summary, write_config

from allgrad.autodiff.errors import AnomalyError
from allgrad.cli.main import main
from allgrad.train.checkpoint.format import list_checkpoints

BEFORE = signal.getsignal(signal.SIGTERM), resource.getrlimit(resource.RLIMIT_FSIZE)

PLUGIN = """
import numpy as np
from allgrad.train import register_loss
from allgrad.train.components.losses import Regression
from allgrad import nn

class Odd(Regression):
    calls = 0
    def sums(self, model, part):
        self.calls += 1
        out = np.sum(model(part["inputs"]) ** 2)
        if self.calls == 6:  # V = 4: the second worker of the second step
            if self.fails:
                raise ZeroDivisionError("the loss failed")
            out = out + np.log(out - out.item())
        return {"loss": out}

@register_loss("odd")
def odd(info, *, fails: bool = False):
    loss = Odd(nn.MSELoss())
    loss.fails = fails
    return loss
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """The configuration and the folder of a finished run."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder)
    assert main(["train", str(config), f"run.dir={folder / 'run'}"]) == 0
    return config, folder / "run"


@pytest.fixture
def plugin(tmp_path) -> list[str]:
    (tmp_path / "odd_loss.py").write_text(PLUGIN)
    return ["--plugin", str(tmp_path / "odd_loss.py"), "loss.name=odd"]


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_last_line_is_the_digest(whole, tmp_path, capsys) -> None:
    assert main(["train", str(whole[0]), f"run.dir={tmp_path / 'run'}", "--debug"]) == 0
    lines = capsys.readouterr().out.splitlines()
    digest = f"weights sha256 {summary(whole[1])['weights_sha256']}"
    assert lines[0].endswith(f"{STEPS} steps, 4 virtual workers on 1 rank")
    assert lines[-2:] == [f"the run is in {tmp_path / 'run'}", digest]
    assert main(["digest", str(tmp_path / "run")]) == 0
    assert main(["digest", str(list_checkpoints(tmp_path / "run" / "checkpoints")[0])]) == 0
    assert capsys.readouterr().out.splitlines() == [digest, digest]


def test_eval_prints_json(whole, capsys) -> None:
    assert main(["eval", str(whole[1])]) == 0
    assert json.loads(capsys.readouterr().out) == {"step": STEPS, **summary(whole[1])["eval"]}
    assert main(["eval", str(whole[1]), "--best"]) == 0
    best = json.loads(capsys.readouterr().out)
    evaluations = {line["step"]: line["eval"] for line in metrics(whole[1]) if "eval" in line}
    assert best == {"step": best["step"], **min(evaluations.values(), key=lambda found: found["loss"])}


def test_sample_writes_and_only_for_tokens(whole, tmp_path, capsys) -> None:
    config = Path(__file__).parents[2] / "configs" / "moby_dick.yaml"
    words = ["model.layers=1", "model.width=16", "model.heads=2", "data.context=16", "data.valid=500", "batch.size=8"]
    run = tmp_path / "whale"
    assert main(["train", str(config), *words, "train.steps=2", f"run.dir={run}", "logging.sample=30"]) == 0
    out = capsys.readouterr().out
    assert len(out.partition("evaluation")[2].partition("\n\n")[2].rpartition("\n\nthe run is in")[0]) >= 28
    command = ["sample", str(run), "--prompt", "Call me", "--length", "20"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith("Call me")
    assert len(first) == len("Call me") + 20 + 1
    assert main(command) == 0
    assert capsys.readouterr().out == first
    assert main([*command, "--seed", "1"]) == 0
    assert capsys.readouterr().out != first
    assert main(["sample", str(whole[1])]) == 2
    assert "was trained on values, not on tokens" in capsys.readouterr().err


# The debugger.


def test_the_debugger_stops_right_before_that_workers_step(whole, tmp_path, monkeypatch) -> None:
    seen = []

    def hook() -> None:
        frame = sys._getframe(1)
        caller = frame.f_back
        done = [times.worker for times in caller.f_locals["work"].times]  # the workers that have run in this step
        seen.append((frame.f_locals["at_step"], frame.f_locals["at_worker"], caller.f_locals["worker"], done))

    monkeypatch.setattr(sys, "breakpointhook", hook)
    words = [str(whole[0]), f"run.dir={tmp_path / 'run'}", "--debug", "--worker", "2", "--step", "37"]
    assert main(["train", *words]) == 0
    ((step, worker, named, done),) = seen
    assert (step, worker, named) == (37, 2, 2)
    assert worker not in done
    assert summary(tmp_path / "run")["weights_sha256"] == summary(whole[1])["weights_sha256"]


def test_a_resumed_run_can_be_debugged(whole, tmp_path, monkeypatch) -> None:
    shutil.copytree(whole[1], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    for path in list_checkpoints(tmp_path / "run" / "checkpoints")[:1]:
        shutil.rmtree(path)
    seen = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: seen.append(sys._getframe(1).f_locals["at_step"]))
    assert main(["resume", str(tmp_path / "run"), "--debug", "--worker", "0", "--step", str(STEPS - 1)]) == 0
    assert seen == [STEPS - 1]


@pytest.mark.parametrize("words", [["--worker", "2"], ["--debug", "--step", "2"], ["--worker", "2", "--step", "1"]])
def test_worker_and_step_go_together(whole, words, capsys) -> None:
    assert main(["train", str(whole[0]), *words]) == 2
    assert "--worker and --step must be given together" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--worker", "4", "--step", "1"], ["--worker", "0", "--step", str(STEPS)]])
def test_a_step_that_never_comes_is_said_at_once(whole, tmp_path, words, capsys) -> None:
    assert main(["train", str(whole[0]), f"run.dir={tmp_path / 'run'}", "--debug", *words]) == 2
    assert f"is never reached: this run has steps 0-{STEPS - 1} and workers 0-3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_post_mortem_where_it_failed(whole, tmp_path, plugin, monkeypatch, capsys) -> None:
    opened = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("pdb.post_mortem", opened.append)
    words = [str(whole[0]), *plugin, "loss.fails=true", f"run.dir={tmp_path / 'run'}", "--debug"]
    assert main(["train", *words]) == 1
    trace = opened[0]
    while trace.tb_next is not None:
        trace = trace.tb_next
    assert trace.tb_frame.f_locals["self"].calls == 6
    assert capsys.readouterr().err.count("ZeroDivisionError: the loss failed") == 1
    assert "ZeroDivisionError: the loss failed" in (tmp_path / "run" / "failure.txt").read_text()


def test_without_a_terminal_the_traceback_is_all(whole, tmp_path, plugin, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr("pdb.post_mortem", None)
    words = [str(whole[0]), *plugin, "loss.fails=true", f"run.dir={tmp_path / 'run'}"]
    with pytest.raises(ZeroDivisionError, match="the loss failed") as caught:
        main(["train", *words, "--debug"])
    where = "--debug --step 1 --worker 1"  # V = 4: the loss's sixth call
    assert caught.value.__notes__ == [f"In step 1, worker 1: `{where}` stops right before it, in one process."]
    assert where in (tmp_path / "run" / "failure.txt").read_text()


def test_anomaly_names_the_operation_that_made_the_first_nan(whole, tmp_path, plugin) -> None:
    words = [str(whole[0]), *plugin, f"run.dir={tmp_path / 'run'}", "--debug"]
    with pytest.raises(AnomalyError, match="log") as caught, np.errstate(all="ignore"):
        main(["train", *words, "--anomaly"])
    assert "odd_loss.py" in str(caught.value)


def test_without_it_the_run_ends_and_says_what_may_help(whole, tmp_path, plugin, capsys, monkeypatch) -> None:
    text = (tmp_path / "odd_loss.py").read_text().replace("np.log(out - out.item())", "out * np.nan")
    (tmp_path / "odd_loss.py").write_text(text)
    assert main(["train", str(whole[0]), *plugin, f"run.dir={tmp_path / 'run'}"]) == 3
    err = capsys.readouterr().err
    assert "Step 1: the loss is nan" in err
    assert "train.nonfinite=skip or rollback continues without such a step" in err
    assert "Step 1: the loss is nan" in (tmp_path / "run" / "failure.txt").read_text()


# Mistakes: one clear message, the exit code, nothing overwritten.


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "nowhere.yaml"], 2, "nowhere.yaml: there is no such file"),
        (["train", "{config}", "optimizer.lrr=1"], 2, "optimizer.lrr: unknown key"),
        (["train", "{config}", "optimizer.lr=fast"], 2, "optimizer.lr: expected a number"),
        (["train", "{config}", "data.train=nowhere.npz"], 1, "nowhere.npz: no such file"),
        (["train", "{config}", "--plugin", "nowhere.py"], 2, "there is no Python file"),
        (["train", "{config}", "run.dir={run}"], 2, "already holds this run.\nContinue it with"),
        (["train", "{run}/config.yaml"], 2, "already holds this run.\nContinue it with"),
        (["train", "{run}/config.yaml", "seed=8"], 2, "seed: 3 there, 8 here"),
        (["train", "{config}", "run.dir={config}"], 2, "already exists and is not a run's directory"),
        (["train", "{config}", "run.dir={config}/under"], 2, "Not a directory. Use another run.dir"),
        (["resume", "{run}"], 2, f"is complete: {STEPS} of {STEPS} steps are done"),
        (["resume", "{run}", "seed=8"], 2, "with different values of\n  seed (saved: 3, requested: 8)"),
        (["resume", "{run}", "sed=8"], 2, "sed: unknown key"),
        (["resume", "nowhere"], 2, "There is no directory nowhere"),
        (["resume", "{run}", "-n", "0"], 2, "-n must be a positive number or auto"),
        (["eval", "nowhere"], 2, "There is no directory nowhere"),
        (["digest", "nowhere"], 1, "nowhere has no checkpoint"),
        (["sample", "{run}", "--length", "0"], 2, "--length must be at least 1"),
    ],
)
def test_a_mistake_is_one_message(whole, words, code, said, capsys) -> None:
    config, run = whole
    before = content(config.parent)
    assert main([word.format(config=config, run=run) for word in words]) == code
    err = capsys.readouterr().err
    assert err.startswith("allgrad: error: ")
    assert said in err
    assert content(config.parent) == before


def test_damaged_checkpoints(whole, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    (run / "summary.json").unlink()
    newest, *others = list_checkpoints(run / "checkpoints")
    (newest / "model.safetensors").write_bytes(b"")
    assert main(["resume", str(run)]) == 0
    out, err = capsys.readouterr()
    assert f"{newest} is damaged: model.safetensors has 0 bytes" in err
    assert out.splitlines()[-1] == f"weights sha256 {summary(whole[1])['weights_sha256']}"
    (run / "summary.json").unlink()
    for path in (newest, *others):
        (path / "state.json").unlink()
    assert main(["resume", str(run)]) == 1
    err = capsys.readouterr().err
    assert err.count("state.json is missing") == len([newest, *others])
    assert "Traceback" not in err


def test_whoever_looks_at_a_damaged_run_is_told_which_checkpoint_it_is(whole, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    newest, before, *_ = list_checkpoints(run / "checkpoints")
    (newest / "model.safetensors").write_bytes(b"")
    told = f"{newest} is damaged: model.safetensors has 0 bytes"
    with pytest.warns(RuntimeWarning, match=told):
        assert main(["digest", str(run)]) == 0
    out = capsys.readouterr().out
    assert main(["digest", str(before)]) == 0
    assert capsys.readouterr().out == out
    with pytest.warns(RuntimeWarning, match=told):
        assert main(["eval", str(run)]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == int(before.name[5:])


def test_data_that_lie_elsewhere_now(whole, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    stored = (run / "config.yaml").read_text().partition("\n")[2]  # without the digest
    (run / "config.yaml").write_text(stored.replace("data.npz", "gone.npz"))
    shutil.copy(whole[0].parent / "data.npz", tmp_path / "moved.npz")
    assert main(["eval", str(run)]) == 1
    assert "gone.npz: no such file" in capsys.readouterr().err
    moved = f"data.train={tmp_path / 'moved.npz'}"
    assert main(["eval", str(run), moved]) == 0
    assert json.loads(capsys.readouterr().out) == {"step": STEPS, **summary(whole[1])["eval"]}
    assert main(["eval", str(run), moved, "data.valid_fraction=0.3"]) == 2
    err = capsys.readouterr().err
    assert "data.valid_fraction (saved: 0.2, requested: 0.3)" in err
    assert "data.train, data.valid may change" in err
    (run / "summary.json").unlink()
    shutil.rmtree(list_checkpoints(run / "checkpoints")[0])
    assert main(["resume", str(run), moved]) == 0
    assert summary(run)["weights_sha256"] == summary(whole[1])["weights_sha256"]


def test_an_mpi_library_that_does_not_load_is_a_message(whole, tmp_path, monkeypatch, capsys) -> None:
    def init(**settings) -> None:
        raise RuntimeError("cannot load MPI library\nlibmpi.so: cannot open shared object file")

    monkeypatch.setattr("allgrad.comm.init", init)
    assert main(["train", str(whole[0]), f"run.dir={tmp_path / 'run'}"]) == 1
    told = "MPI does not start: cannot load MPI library libmpi.so: cannot open shared object file. `allgrad doctor` says more."
    assert capsys.readouterr().err == f"allgrad: error: {told}\n"


def limited(words: list[str], *, before: str) -> subprocess.CompletedProcess:
    """The command in a process of its own, in which `before` is run first."""
    program = f"import os, resource, signal, sys\n{before}\nfrom allgrad.cli.main import main\nsys.exit(main({words}))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)


def test_a_full_disk(tmp_path) -> None:
    """No file may grow beyond 20 kB, which the first checkpoint needs: the runs before it are left as they were."""
    config = write_config(tmp_path, model={"hidden": [64, 64]}, train={"early_stopping": None})
    before = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    )
    done = limited(["train", str(config), f"run.dir={tmp_path / 'run'}"], before=before)
    assert done.returncode == 1
    assert done.stderr.startswith("allgrad: error: ")
    assert "Cannot write the checkpoint" in done.stderr
    assert "File too large. The newest checkpoint there is none. Make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert "Cannot write the checkpoint" in (tmp_path / "run" / "failure.txt").read_text()
    assert main(["resume", str(tmp_path / "run"), "train.steps=12"]) == 0
    assert not (tmp_path / "run" / "failure.txt").exists()


def test_a_full_disk_for_metrics(tmp_path) -> None:
    config = write_config(tmp_path, train={"log_every": 1, "early_stopping": None}, checkpoint={"every": None})
    before = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))"
    done = limited(["train", str(config), f"run.dir={tmp_path / 'run'}"], before=before)
    assert done.returncode == 1
    assert without_notices(done.stderr) == (
        f"allgrad: error: Cannot write {tmp_path / 'run' / 'metrics.jsonl'}: File too large. Once there is room, "
        f"continue from the newest checkpoint with `allgrad resume {tmp_path / 'run'}`.\n"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_too_full_for_any_report_is_named_all_the_same(tmp_path, capsys) -> None:
    """failure.txt cannot be written either, and does not become the cause."""
    every_step = {"log_every": 1, "eval_every": None, "early_stopping": None}
    config = write_config(tmp_path, train=every_step, checkpoint={"every": None})
    (tmp_path / "small").mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(tmp_path / "small")], check=False)
    if mount.returncode:
        pytest.skip("this container may not mount a file system")
    try:
        assert main(["train", str(config), f"run.dir={tmp_path / 'small' / 'run'}"]) == 1
        assert "metrics.jsonl: No space left on device. Once there is room" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "small")], check=True)


def test_a_killed_run_leaves_every_line_up_to_the_kill(whole, tmp_path) -> None:
    """And the run that goes on leaves each step once, as if it had never stopped."""
    at_step_25 = "import allgrad.train.trainer as t; step = t.Trainer._train_step; " \
        "t.Trainer._train_step = " \
        "lambda s: os.kill(os.getpid(), signal.SIGKILL) if s.progress.step == 25 else step(s)"  # fmt: skip
    run = tmp_path / "run"
    words = ["train", str(whole[0]), f"run.dir={run}", "train.log_every=1"]
    assert limited(words, before=at_step_25).returncode == -signal.SIGKILL
    assert (run / "metrics.jsonl").read_bytes().endswith(b"\n")
    assert [line["step"] for line in metrics(run) if "loss" in line] == [*range(1, 26)]
    assert list_checkpoints(run / "checkpoints")[0].name in ("step-000010", "step-000015", "step-000020")
    assert main(["resume", str(run)]) == 0
    assert [line["step"] for line in metrics(run) if "loss" in line] == [*range(1, STEPS + 1)]
    reference = metrics(whole[1])
    logged = {line["step"] for line in reference if "loss" in line}
    assert [line for line in metrics(run) if "eval" in line or line["step"] in logged] == reference


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody who has no rights")
def test_no_right_to_write(whole) -> None:
    with tempfile.TemporaryDirectory(prefix="allgrad-rights-") as name:  # pytest's own folders are closed to others
        home = Path(name)
        home.chmod(0o755)
        config = write_config(home)
        shutil.copytree(whole[1], home / "run")
        shutil.copy(whole[0].parent / "data.npz", home)
        stored = home / "run" / "config.yaml"
        stored.write_text(
            stored.read_text().partition("\n")[2].replace(str(whole[0].parent / "data.npz"), str(home / "data.npz"))
        )
        (home / "run" / "summary.json").unlink()
        # As root first, which imports what nobody else may be able to read.
        first = ["train", str(config), "train.steps=4", f"run.dir={home / 'first'}"]
        nobody = f"from allgrad.cli.main import main; main({first}); os.setgid(65534); os.setuid(65534)"
        new = limited(["train", str(config), f"run.dir={home / 'new'}"], before=nobody)
        assert new.returncode == 2
        told = f"Cannot write to {home / 'new'}: Permission denied. Use another run.dir."
        assert without_notices(new.stderr) == f"allgrad: error: {told}\n"
        shutil.rmtree(home / "first")
        before = content(home / "run")
        again = limited(["resume", str(home / "run")], before=nobody)
        assert (again.returncode, again.stderr.count("\n")) == (2, 1)
        assert "Permission denied" in again.stderr
        assert content(home / "run") == before


def test_signals_and_limits_of_this_process_are_as_before() -> None:
    assert (signal.getsignal(signal.SIGTERM), resource.getrlimit(resource.RLIMIT_FSIZE)) == BEFORE
