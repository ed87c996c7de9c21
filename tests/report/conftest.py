"""Finished runs for the tests of reports: values with a trace, and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from runs import train
from small_run import write_config

if TYPE_CHECKING:
    from pathlib import Path

SHORT = {"steps": 30, "eval_every": 10, "log_every": 2, "early_stopping": None}


@pytest.fixture(scope="session")
def values_run(tmp_path_factory) -> Path:
    """A run on values whose first steps were traced."""
    place = tmp_path_factory.mktemp("values")
    train(write_config(place, train=SHORT), place / "run", "logging.trace=4", "run.name=values")
    return place / "run"


@pytest.fixture(scope="session")
def classes_run(tmp_path_factory) -> Path:
    """A run on three classes, with a name that is an attack."""
    place = tmp_path_factory.mktemp("classes")
    config = write_config(place, train=SHORT)
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(90, 6)).astype(np.float32)
    labels = inputs[:, :3].argmax(axis=1).astype(np.int64)
    np.savez(place / "data.npz", inputs=inputs, targets=labels)
    changes = ["data.task=classes", "loss=cross_entropy", "seed=4", "run.name='<script>alert(1)<script>'"]
    train(config, place / "run", *changes)
    return place / "run"
