"""A run depended on its training file: means, classes and vocabulary were computed anew from what was there later."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import resume, train

from allgrad.data import DataError
from allgrad.errors import AllgradError
from allgrad.train.run.build import load_trainer
from allgrad.train.run.model import load_model

CONFIG = """
model: {name: mlp, hidden: [4]}
data: {name: csv, path: rows.csv, numeric: [a, b], categorical: [kind], target: y}
loss: mse
batch: {size: 8, virtual_workers: 2}
optimizer: {name: sgd, lr: 0.01}
train: {steps: 6}
logging: {progress: none}
"""


def rows(scale=1.0, shift=0.0, kinds="xyz"):
    rng = np.random.default_rng(0)
    lines = ["a,b,kind,y"]
    for number in range(40):
        a, b = rng.normal(size=2)
        lines.append(f"{a * scale + shift},{b},{kinds[number % len(kinds)]},{a - b}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def run(tmp_path) -> Path:
    (tmp_path / "rows.csv").write_text(rows())
    (tmp_path / "run.yaml").write_text(CONFIG)
    train(tmp_path / "run.yaml", tmp_path / "run")
    return tmp_path / "run"


def test_an_evaluation_scales_other_rows_as_the_training_did(run, tmp_path) -> None:
    before = load_trainer(run).evaluate()
    (tmp_path / "rows.csv").write_text(rows(scale=1000, shift=5))
    after = load_trainer(run)
    assert after.evaluate() != before
    assert np.abs(after.source.valid.batch(np.arange(4))["inputs"][:, 0]).max() > 100


def test_an_unseen_category_is_named(run, tmp_path) -> None:
    (tmp_path / "rows.csv").write_text(rows(kinds="xyzw"))
    with pytest.raises(DataError, match="'w'"):
        load_trainer(run)


def test_training_does_not_continue_on_other_data(run, tmp_path) -> None:
    (tmp_path / "rows.csv").write_text(rows(shift=0.125))
    with pytest.raises(AllgradError, match="The training data have changed since this run started"):
        resume(run, "train.steps=9")
    (tmp_path / "rows.csv").write_text(rows())
    assert resume(run, "train.steps=9")["steps"] == 9


def test_the_model_is_usable_without_the_file(run, tmp_path) -> None:
    trainer = load_trainer(run)
    inputs = trainer.source.valid.batch(np.arange(3))["inputs"]
    expected = trainer.model(inputs).numpy()
    (tmp_path / "rows.csv").unlink()
    loaded = load_model(run)
    np.testing.assert_array_equal(loaded.model(inputs).numpy(), expected)
    assert loaded.info.extra["features"] == ["a", "b", "kind=x", "kind=y", "kind=z"]
    assert loaded.fitted == trainer.source.fitted


def test_the_run_directory_may_be_moved(run, tmp_path) -> None:
    shutil.move(run, tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere").step == 6


def test_the_vocabulary_stays(tmp_path) -> None:
    (tmp_path / "text.txt").write_text("abcd efgh " * 80)
    config = Path(__file__).parents[2] / "configs" / "moby_dick.yaml"
    small = ["model.layers=1", "model.width=16", "model.heads=2", "data.context=8", "data.valid=50", "train.steps=2"]
    train(config, tmp_path / "run", *small, f"data.path={tmp_path / 'text.txt'}", "logging.progress=none")
    (tmp_path / "text.txt").write_text("abcd efgX " * 80)  # of the same length
    with pytest.raises(AllgradError, match="X"):
        load_trainer(tmp_path / "run")
    assert load_model(tmp_path / "run").info.extra["vocabulary"] == " abcdefgh"
