"""A run directory put together by hand: weights of another model or of integers, NaN, garbled metrics, links."""

from __future__ import annotations

import json

import numpy as np
import pytest
from runs import train
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.checkpoint.format import list_checkpoints, read_checkpoint
from allgrad.train.checkpoint.writer import CheckpointWriter


@pytest.fixture
def run(tmp_path):
    config = write_config(tmp_path, train={"steps": 10, "early_stopping": None, "eval_every": None})
    train(config, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    return tmp_path / "run"


def with_weights(run, change) -> None:
    """Write the newest checkpoint again, correctly, with other weights."""
    found = read_checkpoint(list_checkpoints(run / "checkpoints")[0])
    with CheckpointWriter(run / "checkpoints") as writer:
        writer.save(found.step, model=change(dict(found.model)), training=found.training, state=found.state)


@pytest.mark.parametrize("command", ["eval", "resume"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {n: a for n, a in w.items() if "bias" not in n}, ".bias is missing"),
        (lambda w: w | {"extra": np.ones(2, np.float32)}, "extra is unknown to the model"),
        (lambda w: {n: a[..., :1].copy() for n, a in w.items()}, "the model's has"),
        (lambda w: {n: a.astype(np.int32) for n, a in w.items()}, "is int32, the model's is float32"),
        (lambda w: {n: np.full_like(a, np.nan) for n, a in w.items()}, "holds NaN or infinity"),
    ],
    ids=["a key less", "a key more", "shape", "integers", "nan"],
)
def test_weights_that_do_not_fit(run, change, said, command, capsys) -> None:
    with_weights(run, change)
    assert main([command, str(run)]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert "step-000010 cannot be used" in err


def test_another_models_configuration(run, capsys) -> None:
    lines = (run / "config.yaml").read_text().splitlines()[1:]
    place = next(number for number, line in enumerate(lines) if line.strip().startswith("hidden:"))
    lines[place : place + 1 + lines[place].strip().endswith(":")] = ["  hidden: [9]"]
    (run / "config.yaml").write_text("\n".join(lines) + "\n")
    assert main(["eval", str(run)]) == 1
    assert "has shape (8, 6), the model's has (9, 6)" in capsys.readouterr().err


def test_a_flipped_bit_in_the_configuration(run, capsys) -> None:
    """It was read as another value, such as a learning rate of 0.03 for 0.01, without a word."""
    file = run / "config.yaml"
    text = file.read_text()
    for old, new in (("lr: 0.01", "lr: 0.03"), ("them\n", "themJ"), ("sha256 ", "sha256 0")):
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))
        for command in ("resume", "eval"):
            assert main([command, str(run)]) == 2
            assert f"{file}: does not have the digest in its first line" in capsys.readouterr().err
    file.write_text(text.replace("log_every: 7", "log_every: 3").partition("\n")[2])
    assert main(["resume", str(run), "train.steps=12"]) == 0


def test_garbled_metrics(run, capsys) -> None:
    path = run / "metrics.jsonl"
    path.write_text("garbage\n" + path.read_text())
    assert main(["resume", str(run), "train.steps=12"]) == 1
    assert "metrics.jsonl, line 1: expected a JSON object with a step" in capsys.readouterr().err


def test_a_blank_line_is_no_garbage(run) -> None:
    path = run / "metrics.jsonl"
    path.write_text("\n" + path.read_text())
    assert main(["resume", str(run), "train.steps=12"]) == 0


def test_a_link_is_not_written_through(run, tmp_path, capsys) -> None:
    (tmp_path / "precious").write_text(json.dumps({"step": 99}) + "\n")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(tmp_path / "precious")
    assert main(["resume", str(run), "train.steps=12"]) == 1
    assert "it is a symbolic link" in capsys.readouterr().err
    assert (tmp_path / "precious").read_text() == json.dumps({"step": 99}) + "\n"
