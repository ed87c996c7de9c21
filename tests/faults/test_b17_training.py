"""One-line changes of the trainer that no test noticed: the unit of the reported rate, and a manifest that names other files."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
from checkpoints import save

from allgrad.data import DataInfo
from allgrad.parallel import Overlap
from allgrad.train.checkpoint import format as checkpoint
from allgrad.train.checkpoint.format import DamagedCheckpointError, read_checkpoint
from allgrad.train.loggers.base import Logger
from allgrad.train.loggers.pace import Pace
from allgrad.train.loggers.reporter import Reporter
from allgrad.train.run.progress import Progress


class Record(Logger):
    def __init__(self) -> None:
        self.seen: list[dict] = []

    def log(self, step, values) -> None:
        self.seen.append(dict(values))


@pytest.mark.parametrize(("kind", "per_sample"), [("tokens", 16), ("values", 1)])
def test_the_rate_counts_tokens_of_a_text_and_samples_of_anything_else(monkeypatch, kind, per_sample) -> None:
    clock = iter([100.0, 102.0])
    monkeypatch.setattr("allgrad.train.loggers.reporter.time.perf_counter", lambda: next(clock))
    run = types.SimpleNamespace(
        config=types.SimpleNamespace(train=types.SimpleNamespace(log_every=1)),
        info=DataInfo(kind, (16,), 3, {}),
        plan=types.SimpleNamespace(steps=10),
        overlap=Overlap(),
        progress=Progress(),
        optimizer=types.SimpleNamespace(groups=[types.SimpleNamespace(lr=0.1)]),
        gradient_norm=None,
    )
    record = Record()
    reporter = Reporter(run, [record], Pace(10, eval_every=None, evaluation_in_steps=1.0))
    run.progress.step, run.progress.samples = 1, 8
    reporter.on_step(run, types.SimpleNamespace(loss=2.0, terms={"loss": 2.0}))
    assert record.seen[0]["rate"] == 8 * per_sample / 2.0


def test_a_manifest_that_names_other_files_is_refused(tmp_path) -> None:
    """It is sealed correctly: only what it names is wrong."""
    save(tmp_path, 1)
    path = tmp_path / "step-000001"
    body = json.loads((path / "manifest.json").read_text())["manifest"]
    (path / "extra.bin").write_bytes(b"")
    files = {name: (path / name).read_bytes() for name in [*body["files"], "extra.bin"]}
    (path / "manifest.json").write_bytes(checkpoint.manifest_of(1, files, None))
    with pytest.raises(DamagedCheckpointError, match="belongs to step 1 or to other files"):
        read_checkpoint(path)
    assert np.all([name in files for name in body["files"]])
