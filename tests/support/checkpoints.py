"""Small checkpoints for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.train.checkpoint.writer import CheckpointWriter

if TYPE_CHECKING:
    from pathlib import Path

STATE = {"step": 3, "data": {"epoch": 1, "batch": 2}, "loss": 0.1}


def arrays(step: int) -> dict[str, np.ndarray]:
    return {
        "weight": np.full((3, 2), step, np.float32),
        "bias": np.arange(3.0) + step,
        "count": np.array(step),
        "none": np.zeros((0, 4), np.float32),
    }


def save(folder: Path, *steps: int, **options: object) -> None:
    with CheckpointWriter(folder, **options) as writer:
        for step in steps:
            writer.save(step, model=arrays(step), training={"m": np.full(4, step)}, state={**STATE, "step": step})
