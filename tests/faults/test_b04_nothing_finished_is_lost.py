"""A finished training was lost when its last evaluation, or a sample of its prose, failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import train
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.checkpoint.format import list_checkpoints

PLUGIN = """
from allgrad.train import register_metric

class Broken:
    names = ("broken",)
    def sums(self, outputs, batch):
        raise ZeroDivisionError("the metric failed")
    def results(self, sums):
        return {"broken": 0.0}

@register_metric("broken")
def broken(info):
    return Broken()
"""


def test_the_weights_are_saved_before_the_last_evaluation(tmp_path) -> None:
    (tmp_path / "broken.py").write_text(PLUGIN)
    config = write_config(
        tmp_path,
        train={"steps": 5, "eval_every": None, "early_stopping": None, "metrics": ["rmse", "broken"]},
        checkpoint={"every": None},
    )
    with pytest.raises(ZeroDivisionError, match="the metric failed"):
        train(config, tmp_path / "run", plugins=[tmp_path / "broken.py"])
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-000005"]


def test_a_sample_from_a_text_without_a_new_line(tmp_path, capsys) -> None:
    (tmp_path / "letters.txt").write_text("abcd" * 300)
    config = Path(__file__).parents[2] / "configs" / "moby_dick.yaml"
    small = ["model.layers=1", "model.width=16", "model.heads=2", "data.context=16", "data.valid=100", "train.steps=2"]
    where = [f"data.path={tmp_path / 'letters.txt'}", f"run.dir={tmp_path / 'run'}", "logging.sample=10"]
    assert main(["train", str(config), *small, *where]) == 0
    assert main(["sample", str(tmp_path / "run"), "--length", "5"]) == 0
    assert set(capsys.readouterr().out.splitlines()[-1]) <= set("abcd")
