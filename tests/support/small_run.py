"""A run that takes a second and uses what a long one does: dropout, clipping, an average, early stopping, short batches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import yaml

from allgrad.train.loggers.reporter import CLOCKS

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 100


def write_config(folder: Path, **sections) -> Path:
    """Write data and `small.yaml` into a folder; `sections` are laid over the configuration, key by key."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 6)).astype(np.float32)
    targets = (np.sin(inputs[:, :1]) + 0.5 * inputs[:, 1:2]).astype(np.float32)
    np.savez(folder / "data.npz", inputs=inputs, targets=targets)
    config = {
        "seed": 3,
        "model": {"name": "mlp", "hidden": [8], "activation": "gelu", "dropout": 0.2},
        "data": {"name": "arrays", "train": str(folder / "data.npz"), "task": "values", "valid_fraction": 0.2},
        "loss": {"name": "mse"},
        "batch": {"size": 10, "virtual_workers": 4},  # 72 samples: 8 batches an epoch, the last one of 2
        "optimizer": {
            "name": "adamw",
            "lr": 0.01,
            "clip_norm": 0.5,
            "ema": 0.9,
            "schedule": {"name": "cosine", "warmup": 0.05},
        },
        "train": {
            "steps": STEPS,
            "eval_every": 15,
            "log_every": 7,
            "early_stopping": {"patience": 6, "min_delta": 0.01},
        },
        "checkpoint": {"every": 10},
        "logging": {"progress": "none"},
    }
    for name, changes in sections.items():
        if isinstance(changes, dict):
            config[name] = config.get(name, {}) | changes
        else:
            config[name] = changes
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def metrics(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without what clocks say."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())
