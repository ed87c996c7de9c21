"""A plugin was lost whenever a launcher continued a run: at a requeue, and by `resume`."""

from __future__ import annotations

import pytest
from small_run import summary, write_config

from allgrad.cli.main import main
from allgrad.cli.supervise import continuation

PLUGIN = """
from allgrad.train import Callback, register_callback

@register_callback("nothing")
def nothing():
    return Callback()
"""


@pytest.fixture
def words(tmp_path):
    """What a launcher starts again with the same words."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    train = {"steps": 10, "early_stopping": None, "callbacks": ["nothing"]}
    config = write_config(tmp_path, train=train, checkpoint={"every": 5})
    return ["train", str(config), f"run.dir={tmp_path / 'run'}", "--plugin", str(tmp_path / "plugin.py")]


def test_the_same_words_continue_the_run(words, tmp_path) -> None:
    assert main([*words, "--continue"]) == 0
    digest = summary(tmp_path / "run")["weights_sha256"]
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "checkpoints" / "step-000010").rename(tmp_path / "moved")
    assert main([*words, "--continue"]) == 0
    assert summary(tmp_path / "run")["weights_sha256"] == digest


def test_a_supervisor_resumes_with_it(words, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    assert continuation(["allgrad", *words], tmp_path / "run")[-2:] == ["--plugin", str(tmp_path / "plugin.py")]
