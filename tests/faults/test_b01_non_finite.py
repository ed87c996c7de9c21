"""NaN or infinity in a loss or gradient moved the weights, went into checkpoints, and ended runs with exit code 0."""

from __future__ import annotations

import json

import numpy as np
import pytest
from runs import resume, train
from small_run import metrics, summary, write_config

from allgrad.cli.main import main
from allgrad.errors import NonFiniteError
from allgrad.train.callbacks import Callback
from allgrad.train.checkpoint.format import list_checkpoints, read_checkpoint
from allgrad.train.nonfinite import ROLLBACKS, SKIPS, all_finite

PLUGIN = """
import numpy as np
from allgrad import nn
from allgrad.train import register_loss
from allgrad.train.components.losses import Regression

class Poisoned(Regression):
    '''Spoils the loss or its gradient in some steps: V = 4 workers, one call for each (but in short batches).'''
    calls = 0

    def sums(self, model, batch):
        step, self.calls = self.calls // 4, self.calls + 1
        out = super().sums(model, batch)["loss"]
        if step in self.steps:
            if self.gradient:
                out.register_hook(lambda g: g * np.nan)
            else:
                out = out + np.inf
        return {"loss": out}

@register_loss("poisoned")
def poisoned(info, *, steps: tuple[int, ...], gradient: bool = False):
    made = Poisoned(nn.MSELoss())
    made.steps, made.gradient = steps, gradient
    return made
"""


@pytest.fixture
def poisoned(tmp_path):
    """poisoned(steps, gradient=False, **sections) -> the configuration and its plugins"""
    (tmp_path / "poison.py").write_text(PLUGIN)

    def make(steps, *, gradient=False, **sections):
        quiet = {"eval_every": None, "early_stopping": None, "steps": 20} | sections.pop("train", {})
        loss = {"name": "poisoned", "steps": list(steps), "gradient": gradient}
        config = write_config(tmp_path, loss=loss, train=quiet, **{"checkpoint": {"every": 5, "keep": 1}, **sections})
        return config, [tmp_path / "poison.py"]

    return make


class Weights(Callback):
    """The weights after each step."""

    def __init__(self) -> None:
        self.seen: list[dict] = []

    def on_step(self, run, result) -> None:
        self.seen.append({name: array.copy() for name, array in run.model.state_dict().items()})


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
@pytest.mark.parametrize("clip", [0.5, None], ids=["clipped", "unclipped"])
def test_the_run_stops_before_the_weights_move(poisoned, tmp_path, gradient, clip) -> None:
    config, plugins = poisoned([6], gradient=gradient, optimizer={"clip_norm": clip})
    what = "the gradient of" if gradient else "the loss is inf"
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=f"Step 6: {what}") as caught:
        train(config, tmp_path / "run", plugins=plugins)
    assert caught.value.exit_code == 3
    (newest,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert newest.name == "step-000005"
    assert all_finite(array.ravel() for array in read_checkpoint(newest).model.values())


def test_also_in_the_last_step(poisoned, tmp_path) -> None:
    config, plugins = poisoned([6], gradient=True, train={"steps": 7})
    with np.errstate(all="ignore"):
        words = [str(config), "--plugin", str(plugins[0]), f"run.dir={tmp_path / 'run'}"]
        assert main(["train", *words]) == 3
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_skipped_step_changes_nothing(poisoned, tmp_path) -> None:
    config, plugins = poisoned([5, 6], gradient=True, train={"nonfinite": "skip", "log_every": 1})
    weights = Weights()
    with np.errstate(all="ignore"):
        found = train(config, tmp_path / "run", plugins=plugins, callbacks=[weights])
    assert found["skipped_steps"] == [5, 6]
    assert found["steps"] == 20
    for name, array in weights.seen[4].items():
        np.testing.assert_array_equal(weights.seen[6][name], array)
        assert not np.array_equal(weights.seen[7][name], array)
    assert [line["step"] for line in metrics(tmp_path / "run") if line.get("skipped")] == [6, 7]


def test_too_many_in_a_row_end_the_run(poisoned, tmp_path) -> None:
    config, plugins = poisoned(range(3, 20), train={"nonfinite": "skip"})
    with pytest.raises(NonFiniteError, match=f"Step {2 + SKIPS}: .* for the {SKIPS}th step in a row"):
        train(config, tmp_path / "run", plugins=plugins)


def test_rollback_returns_to_the_checkpoint_and_leaves_the_batch_out(poisoned, tmp_path) -> None:
    config, plugins = poisoned([6], train={"nonfinite": "rollback", "log_every": 1})
    found = train(config, tmp_path / "run", plugins=plugins)
    assert found["rollbacks"] == [[6, 5]]
    assert found["steps"] == 20
    assert all(np.isfinite(line["loss"]) for line in metrics(tmp_path / "run") if "loss" in line)
    assert [line["step"] for line in metrics(tmp_path / "run") if "loss" in line] == [*range(1, 21)]
    assert found["epochs"] == pytest.approx(summary(tmp_path / "run")["epochs"])


def test_rollback_before_the_first_checkpoint_returns_to_the_start(poisoned, tmp_path) -> None:
    config, plugins = poisoned([2], train={"nonfinite": "rollback"})
    assert train(config, tmp_path / "run", plugins=plugins)["rollbacks"] == [[2, 0]]


def test_rollback_gives_up(poisoned, tmp_path) -> None:
    config, plugins = poisoned(range(7, 100), train={"nonfinite": "rollback"})
    with pytest.raises(NonFiniteError, match=f"has returned to the checkpoint of step 5 {ROLLBACKS} times already"):
        train(config, tmp_path / "run", plugins=plugins)


def test_a_resumed_run_remembers_what_it_left_out(poisoned, tmp_path) -> None:
    config, plugins = poisoned([3], train={"nonfinite": "skip", "steps": 10})
    train(config, tmp_path / "run", plugins=plugins)
    assert resume(tmp_path / "run", "train.steps=12", plugins=plugins)["skipped_steps"] == [3]


def test_weights_that_overflow_are_not_saved(tmp_path) -> None:
    config = write_config(
        tmp_path,
        optimizer={"name": "sgd", "lr": 1.0, "schedule": None, "ema": None, "clip_norm": None},
        train={"eval_every": None, "early_stopping": None, "steps": 4},
        checkpoint={"every": 1, "keep": 1},
    )

    class Overflow(Callback):
        def on_step(self, run, result) -> None:
            if run.progress.step == 3:
                next(iter(run.optimizer.flat.params.flat.values()))[0] = np.inf

    with pytest.raises(NonFiniteError, match=r"After 3 steps some weights are NaN or infinite\. They are not saved"):
        train(config, tmp_path / "run", callbacks=[Overflow()])
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-000002"]


def test_held_out_data_with_nan(tmp_path, capsys) -> None:
    """The trained weights are saved, the evaluation is reported, and the exit code says it."""
    config = write_config(tmp_path, train={"steps": 5, "eval_every": None, "early_stopping": None})
    with np.load(tmp_path / "data.npz") as arrays:
        bad = {name: array.copy() for name, array in arrays.items()}
    bad["inputs"][3, 2] = np.nan
    np.savez(tmp_path / "valid.npz", **bad)
    run = tmp_path / "run"
    words = [str(config), f"data.valid={tmp_path / 'valid.npz'}", f"run.dir={run}"]
    assert main(["train", *words]) == 3
    assert "the monitored metric loss is nan" in capsys.readouterr().err
    assert list_checkpoints(run / "checkpoints")[0].name == "step-000005"
    assert main(["eval", str(run)]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["loss"] == "NaN"
    assert "Not finite on these data: loss, rmse, r2." in err


LOG = """
import numpy as np
from allgrad import nn
from allgrad.train import register_loss
from allgrad.train.components.losses import Regression

class Risky(Regression):
    def sums(self, model, batch):
        risky = np.log(np.maximum(model(batch["inputs"]), 0.0))  # the line that is to be named
        return {"loss": super().sums(model, batch)["loss"] + 0.0 * np.sum(risky)}

@register_loss("risky")
def risky(info):
    return Risky(nn.MSELoss())
"""


def test_the_operation_that_made_the_first_one_is_named(tmp_path) -> None:
    """The step is run again in anomaly mode, without being asked; nothing but the message changes."""
    (tmp_path / "risky.py").write_text(LOG)
    config = write_config(tmp_path, loss={"name": "risky"})
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError) as caught:
        train(config, tmp_path / "run", plugins=[tmp_path / "risky.py"])
    said = str(caught.value)
    assert "The first operation that made one, in worker 0: log gave " in said
    assert f"at {tmp_path / 'risky.py'}:9 in sums" in said
