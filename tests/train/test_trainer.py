"""The trainer in one process: what it writes, when it evaluates, saves and stops, and what a resumed run knows."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import types
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

import numpy as np
import pytest
from small_run import STEPS, metrics, summary, write_config

from allgrad.cli.main import main
from allgrad.comm import World
from allgrad.errors import AllgradError
from allgrad.train.callbacks import Callback, EarlyStopping, improves
from allgrad.train.checkpoint import writer
from allgrad.train.checkpoint.format import list_checkpoints, load_best, read_checkpoint, weights_sha256
from allgrad.train.components.optimizers import parameter_groups
from allgrad.train.config import ConfigError, resolve
from allgrad.train.loggers.summary import SUMMARY_KEYS
from allgrad.train.run.build import Options, load_trainer, new_run, resume_run
from allgrad.train.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path


class StopAt(Callback):
    """What a signal at that step does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer, result) -> None:
        if trainer.progress.step == self.step:
            trainer.stop_request.asked = True


def train(config: Path, run: Path, *overrides: str, **trainer) -> dict:
    made, folder = new_run(config, [f"run.dir={run}", *overrides], Options(single=True, trainer=trainer))
    return made.run(folder)


def resume(run: Path, *overrides: str, **trainer) -> dict:
    made, folder, _ = resume_run(run, overrides, Options(single=True, trainer=trainer))
    return made.run(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """The configuration and the folder of a run that never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder)
    train(config, folder / "run")
    return config, folder / "run"


def test_the_summary_has_all_that_scripts_rely_on(whole) -> None:
    found = summary(whole[1])
    assert set(SUMMARY_KEYS) <= set(found)
    assert (found["steps"], found["ranks"], found["virtual_workers"]) == (STEPS, 1, 4)
    assert found["epochs"] == pytest.approx((12 * 72 + 4 * 10) / 72)
    assert found["comm_hidden_fraction"] is None
    assert found["same_bits_at_any_rank_count"] is True
    assert found["samples_per_second"] > 0
    assert set(found["eval"]) == {"loss", "rmse", "r2"}
    newest = read_checkpoint(list_checkpoints(whole[1] / "checkpoints")[0])
    assert newest.step == STEPS
    assert weights_sha256(newest.model) == found["weights_sha256"]


def test_metrics_come_in_the_order_of_steps(whole) -> None:
    lines = metrics(whole[1])
    assert [line["step"] for line in lines if "loss" in line] == [*range(7, STEPS, 7), STEPS]
    assert [line["step"] for line in lines if "eval" in line] == [*range(15, STEPS, 15), STEPS]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert all(line["gradient_norm"] > 0 for line in lines if "loss" in line)


@pytest.mark.parametrize("step", [1, 8, 37, 45, 90, 99])
def test_stopped_anywhere_and_resumed_is_never_stopped(whole, tmp_path, step) -> None:
    """Inside an epoch, at its end, right after an evaluation and a checkpoint; then a second time."""
    config, reference = whole
    run = tmp_path / "run"
    first = train(config, run, callbacks=[StopAt(step)])
    assert first["interrupted"]
    assert first["steps"] == step
    assert not (run / "summary.json").exists()
    if step < 90:
        assert resume(run, callbacks=[StopAt(step + 9)])["steps"] == step + 9
    last = resume(run)
    assert not last["interrupted"]
    assert last["weights_sha256"] == summary(reference)["weights_sha256"]
    assert last["eval"] == summary(reference)["eval"]
    assert last["epochs"] == summary(reference)["epochs"]
    assert metrics(run) == metrics(reference)


def test_an_exception_loses_what_came_after_the_last_checkpoint_only(whole, tmp_path) -> None:
    class FailAt(Callback):
        def on_step(self, trainer, result) -> None:
            if trainer.progress.step == 57:
                raise ZeroDivisionError("a bug")

    config, reference = whole
    with pytest.raises(ZeroDivisionError):
        train(config, tmp_path / "run", callbacks=[FailAt()])
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[0].name == "step-000050"
    assert resume(tmp_path / "run")["weights_sha256"] == summary(reference)["weights_sha256"]
    assert metrics(tmp_path / "run") == metrics(reference)


def test_a_run_killed_before_its_first_checkpoint_begins_again(whole, tmp_path) -> None:
    class Fail(Callback):
        def on_step(self, trainer, result) -> None:
            if trainer.progress.step == 9:
                raise ZeroDivisionError("a bug")

    config, reference = whole
    with pytest.raises(ZeroDivisionError):
        train(config, tmp_path / "run", callbacks=[Fail()])
    made, folder, said = resume_run(tmp_path / "run", options=Options(single=True))
    assert "has no checkpoint yet" in said[0]
    made.run(folder)
    assert metrics(tmp_path / "run") == metrics(reference)


def test_killed_between_the_last_checkpoint_and_the_summary(whole, tmp_path) -> None:
    """Nothing is evaluated, or written to metrics.jsonl, twice."""
    run = tmp_path / "run"
    train(whole[0], run)
    (run / "summary.json").unlink()
    assert resume(run)["eval"] == summary(whole[1])["eval"]
    assert summary(run)["train_loss"] == summary(whole[1])["train_loss"]
    assert metrics(run) == metrics(whole[1])


def test_early_stopping_is_remembered(tmp_path) -> None:
    config = write_config(tmp_path, train={"eval_every": 5, "early_stopping": {"patience": 3, "min_delta": 0.2}})
    found = train(config, tmp_path / "whole")
    assert found["stopped"] == "loss has not improved for 3 evaluations"
    assert found["steps"] < STEPS
    for step in (found["steps"] - 6, found["steps"]):
        run = tmp_path / f"at {step}"
        train(config, run, callbacks=[StopAt(step)])
        (run / "summary.json").unlink(missing_ok=True)
        again = resume(run)
        assert (again["steps"], again["stopped"]) == (found["steps"], found["stopped"])
        assert again["weights_sha256"] == found["weights_sha256"]
        assert metrics(run) == metrics(tmp_path / "whole")


def test_early_stopping_says_so_and_can_be_lifted(tmp_path, capsys) -> None:
    config = write_config(tmp_path, train={"eval_every": 5, "early_stopping": {"patience": 1, "min_delta": 9.0}})
    assert train(config, tmp_path / "run")["steps"] < STEPS
    assert f"ended after 10 of {STEPS} steps: loss has not improved for 1 evaluation" in capsys.readouterr().out
    with pytest.raises(AllgradError, match="is complete"):
        resume(tmp_path / "run")
    assert resume(tmp_path / "run", "train.early_stopping=null")["steps"] == STEPS


def test_nan_is_never_an_improvement() -> None:
    stopping = EarlyStopping("loss", "min", patience=2)

    reasons: list[str] = []
    run = types.SimpleNamespace(stop=reasons.append)
    for value in (math.nan, 1.0, math.nan):
        stopping.on_evaluation(run, {"loss": value})
        assert reasons == []
    stopping.on_evaluation(run, {"loss": 1.0})
    assert "2 evaluations" in reasons[0]
    assert not improves(math.nan, 1.0, "max")


def test_the_best_checkpoint_is_kept_and_has_the_best_metric(tmp_path) -> None:
    """Every better evaluation is saved, also where no checkpoint was due, and outlives `keep` newer ones."""
    config = write_config(
        tmp_path,
        optimizer={"lr": 0.2, "ema": None, "schedule": None},
        train={"eval_every": 3, "early_stopping": None},
        checkpoint={"every": 10, "keep": 1},
    )
    train(config, tmp_path / "run")
    evaluations = {line["step"]: line["eval"]["loss"] for line in metrics(tmp_path / "run") if "eval" in line}
    best = load_best(tmp_path / "run" / "checkpoints", "min")
    assert best.metric == min(evaluations.values())
    assert evaluations[best.step] == best.metric
    assert len(list_checkpoints(tmp_path / "run" / "checkpoints")) == 2 - (best.step == STEPS)
    assert load_trainer(tmp_path / "run", best=True).evaluate()["loss"] == best.metric


def test_evaluations_use_the_average_and_training_does_not(whole) -> None:
    loaded = load_trainer(whole[1])
    assert loaded.evaluate() == summary(whole[1])["eval"]
    assert weights_sha256(loaded.model.state_dict()) == summary(whole[1])["weights_sha256"]
    loaded.ema = None
    assert loaded.evaluate() != summary(whole[1])["eval"]


def test_minutes_between_checkpoints(tmp_path, monkeypatch) -> None:
    config = write_config(tmp_path, checkpoint={"every": None, "every_minutes": 1.0, "keep": 100}, train={"steps": 20})

    class Hours(Callback):
        def on_step(self, trainer, result) -> None:
            if trainer.progress.step in (4, 11):
                trainer.saved_at -= 61

    train(config, tmp_path / "run", callbacks=[Hours()])
    names = {path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")}
    assert {"step-000004", "step-000011", "step-000020"} <= names


# Callbacks of a library's user.


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.seen = 0

    def on_start(self, trainer) -> None:
        self.events.append(f"start at {trainer.progress.step} in {trainer.directory.name}")

    def on_step(self, trainer, result) -> None:
        self.seen += 1
        self.events.append(f"step {trainer.progress.step}")

    def on_evaluation(self, trainer, found) -> None:
        self.events.append(f"evaluation {trainer.progress.step}")

    def on_checkpoint(self, trainer) -> None:
        self.events.append(f"checkpoint {trainer.progress.step}")

    def on_end(self, trainer, found) -> None:
        self.events.append(f"end {found['steps']}")

    def on_interrupt(self, trainer) -> None:
        self.events.append(f"interrupt {trainer.progress.step}")

    def close(self) -> None:
        self.events.append("close")

    def state_dict(self) -> dict:
        return {"seen": self.seen}

    def load_state_dict(self, state) -> None:
        self.seen = state["seen"]


def test_callbacks_see_every_event_in_order(tmp_path) -> None:
    config = write_config(
        tmp_path, train={"steps": 4, "eval_every": 2, "early_stopping": None}, checkpoint={"every": 3}
    )
    events = Recorder()
    (tmp_path / "mine").mkdir()
    Trainer(resolve(config), World(), callbacks=[events]).run(tmp_path / "mine")
    assert [event for event in events.events if not event.startswith("checkpoint")] == [
        "start at 0 in mine", "step 1", "step 2", "evaluation 2", "step 3", "step 4", "evaluation 4", "end 4", "close"
    ]  # fmt: skip
    assert events.events.index("checkpoint 3") == events.events.index("step 3") + 1
    assert "checkpoint 4" in events.events


def test_callbacks_keep_their_state_and_may_stop_the_run(tmp_path) -> None:
    config = write_config(tmp_path, train={"early_stopping": None})
    one, two = Recorder(), Recorder()
    train(config, tmp_path / "run", callbacks=[one, StopAt(7), two])
    assert one.events[-2:] == ["interrupt 7", "close"]
    after, other = Recorder(), Recorder()

    class Enough(Callback):
        def on_step(self, trainer, result) -> None:
            if after.seen == 20:
                trainer.stop("twenty were enough")

    other.seen = -1
    found = resume(tmp_path / "run", callbacks=[after, other, Enough()])
    assert (found["steps"], found["stopped"]) == (20, "twenty were enough")
    assert other.seen == 20
    assert after.events[0].startswith("start at 7")


def test_callbacks_are_closed_after_an_exception(tmp_path) -> None:
    class Fail(Callback):
        def on_start(self, trainer) -> None:
            raise ZeroDivisionError("a bug")

    events = Recorder()
    with pytest.raises(ZeroDivisionError):
        train(write_config(tmp_path), tmp_path / "run", callbacks=[events, Fail()])
    assert events.events[-1] == "close"


# What a resumed run may be told.


def test_a_longer_run_goes_on_and_remembers_that_it_is_longer(tmp_path) -> None:
    config = write_config(tmp_path, train={"steps": 20, "early_stopping": None})
    train(config, tmp_path / "run")
    with pytest.raises(AllgradError, match=r"is complete: 20 of 20 steps are done"):
        resume(tmp_path / "run")
    assert resume(tmp_path / "run", "train.steps=30", callbacks=[StopAt(25)])["interrupted"]
    assert not (tmp_path / "run" / "summary.json").exists()
    assert resume(tmp_path / "run")["steps"] == 30
    with pytest.raises(AllgradError, match="is complete: 30 of 25 steps"):
        resume(tmp_path / "run", "train.steps=25")


@pytest.mark.parametrize(
    "override", ["optimizer.lr=1.0", "batch.size=12", "seed=4", "model.hidden=[9]", "batch.virtual_workers=2"]
)
def test_what_would_be_another_run_is_refused(whole, tmp_path, override) -> None:
    train(whole[0], tmp_path / "run", callbacks=[StopAt(3)])
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(AllgradError, match=f"Cannot resume .*\n  {override.partition('=')[0]}"):
        resume(tmp_path / "run", override)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before
    assert resume(tmp_path / "run", "train.steps=4", "train.log_every=1")["steps"] == 4


# Parts.


def test_a_monitored_metric_that_nobody_reports_is_found_before_the_first_step(tmp_path) -> None:
    config = write_config(tmp_path, train={"monitor": {"metric": "accuracy", "mode": "max"}})
    with pytest.raises(ConfigError, match="Evaluations report loss, rmse, r2"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


TOKENS = ["data.name=tokens", "data.path=ids.npy", "data.vocabulary_size=9", "data.context=4", "data.valid=20"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["loss.name=cross_entropy"],
            "loss.name: cross_entropy does not work on this data (values). These do: huber, l1, mse.",
        ),
        (
            ["model.name=lstm"],
            "model.name: lstm does not work on this data (values). These do: cnn, mlp, pinn, resnet18.",
        ),
        (["logging.sample=10"], "logging.sample: must be 0, not 10: only a run on text"),
        (
            [*TOKENS, "loss.name=cross_entropy"],
            "model.name: mlp does not work on this data (tokens). These do: gpt, lstm.",
        ),
        (
            [*TOKENS, "loss.name=cross_entropy", "model.name=gpt", "model.context=3"],
            "model.context: must be at least data.context (4), not 3.",
        ),
        (
            [*TOKENS, "loss.name=cross_entropy", "model.name=gpt", "model.context=4", "model.heads=3"],
            "MultiheadAttention: heads must divide the features",
        ),
        (
            [*TOKENS, "loss.name=cross_entropy", "model.name=lstm", "logging.sample=5"],
            "logging.sample: must be 0, not 5",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_found_before_the_first_step(
    tmp_path, monkeypatch, capsys, overrides, said
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("ids.npy", np.arange(100) % 9)
    config = write_config(tmp_path)
    assert main(["train", str(config), *overrides, f"run.dir={tmp_path / 'run'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path) -> None:
    config = write_config(tmp_path, optimizer={"lr": 1e30, "clip_norm": None, "name": "sgd", "schedule": None})
    with (
        pytest.raises(AllgradError, match=r"Step 1: the loss is inf\..* The weights are those of the step before"),
        np.errstate(all="ignore"),
    ):
        train(config, tmp_path / "run")


def test_a_failure_in_writing_a_checkpoint_ends_the_run_soon(tmp_path, monkeypatch) -> None:
    """Not only when the next one is due."""
    config = write_config(tmp_path, train={"early_stopping": None, "eval_every": None}, checkpoint={"every": 10})

    def full_disk(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Obstruct(Callback):
        def on_step(self, trainer, result) -> None:
            if trainer.progress.step == 10:
                monkeypatch.setattr(writer, "write_synced", full_disk)
            if trainer.progress.step > 10:
                trainer.writer._pending.exception(timeout=300)  # let the thread fail

    recorder = Recorder()
    with pytest.raises(Exception, match=r"Cannot write the checkpoint .*step-000010.*No space left"):
        train(config, tmp_path / "run", callbacks=[Obstruct(), recorder])
    assert recorder.seen in (10, 11)


def test_groups_without_weight_decay() -> None:
    class Model:
        def named_parameters(self):
            return iter([("a.weight", np.zeros((2, 2))), ("a.bias", np.zeros(2)), ("b.weight", np.zeros((2, 2)))])

    def names(patterns):
        groups, numbers = parameter_groups(Model(), patterns)
        return [([name for name, _ in g["params"]], g.get("weight_decay")) for g in groups], numbers

    assert names(["vectors"]) == ([(["a.weight", "b.weight"], None), (["a.bias"], 0.0)], [0, 1, 0])
    assert names(["b.*"]) == ([(["a.weight", "a.bias"], None), (["b.weight"], 0.0)], [0, 0, 1])
    assert names([]) == ([(["a.weight", "a.bias", "b.weight"], None)], [0, 0, 0])
    assert names(["*"]) == ([(["a.weight", "a.bias", "b.weight"], 0.0)], [0, 0, 0])


def test_tensorboard_is_asked_for_before_anything_is_made(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("allgrad.train.config.validation.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"logging.loggers: tensorboard needs the package tensorboardX"):
        train(write_config(tmp_path, logging={"loggers": ["jsonl", "tensorboard"]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_state_is_json(whole) -> None:
    checkpoint = read_checkpoint(list_checkpoints(whole[1] / "checkpoints")[0])
    assert json.loads(json.dumps(checkpoint.state)) == checkpoint.state
    assert "callback EarlyStopping" in checkpoint.state


def test_tensorboard_gets_what_metrics_get(tmp_path, monkeypatch) -> None:
    written, purged = [], []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            purged.append(purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((step, name))

        def close(self) -> None: ...

    package = types.ModuleType("tensorboardX")
    package.SummaryWriter = SummaryWriter
    package.__spec__ = ModuleSpec("tensorboardX", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", package)
    config = write_config(tmp_path, logging={"loggers": ["jsonl", "tensorboard"]}, train={"steps": 14, "eval_every": 7})
    train(config, tmp_path / "run", callbacks=[StopAt(8)])
    resume(tmp_path / "run")
    assert {(7, "loss"), (7, "eval/r2"), (7, "lr"), (14, "gradient_norm"), (14, "eval/loss")} <= set(written)
    assert purged == [None, 9]
