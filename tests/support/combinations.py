"""Everything that a way of exchanging gradients can be combined with, and which combinations must be refused.

With `train.nonfinite` other than `stop`, the fourth of the six steps is not finite.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
from small_run import write_config

from allgrad import nn
from allgrad.train.components.losses import Regression
from allgrad.train.config import registry

if TYPE_CHECKING:
    from pathlib import Path

CHOICES = {
    "parallel.reduction": [
        "exact",
        "mpi",
        "bf16",
        "{name: top_k, fraction: 0.2}",
        "{name: top_k, fraction: 0.2, per: rank}",
        "{name: power_sgd, rank: 1, start_after: 1}",
        "{name: power_sgd, rank: 1, per: rank}",
        "{name: local, inner_steps: 3}",
        "{name: local, inner_steps: 2, replicas: 2, fragments: 2, outer: sgd}",
    ],
    "parallel.memory": ["auto", "node", "rank"],
    "parallel.shard": ["null", "optimizer"],
    "parallel.verify_every": ["null", "2"],
    "optimizer.name": ["adafactor", "adam", "adamw", "lamb", "lars", "lion", "muon", "sgd"],
    "optimizer.clip_norm": ["null", "0.5"],
    "optimizer.clip_value": ["null", "0.01"],
    "optimizer.ema": ["null", "0.9"],
    "train.nonfinite": ["stop", "skip", "rollback"],
}


class Poisoned(Regression):
    """The mean square; `active`: infinite where the inputs contain a large number."""

    rows_independent = False

    def __init__(self, active: bool) -> None:
        super().__init__(nn.MSELoss())
        self.active = active

    def sums(self, model, batch):
        total = super().sums(model, batch)["loss"]
        return {"loss": total * np.inf if self.active and batch["inputs"].max() > 2.9 else total}


def register() -> None:
    """Make the loss available in this process. (A plugin would be read anew for every run, which takes longer than the run.)"""
    if "poisoned" not in registry.losses.names():

        @registry.register_loss("poisoned")
        def poisoned(info, *, active: bool = False):
            return Poisoned(active)


def write(folder: Path) -> Path:
    """The configuration of all combinations."""
    return write_config(
        folder,
        loss={"name": "poisoned"},
        optimizer={"ema": None, "clip_norm": None, "lr": 0.01, "schedule": None},
        train={"steps": 6, "eval_every": None, "early_stopping": None},
        checkpoint={"every": 1},  # or else a rollback after a stop returns to another step than without it
    )


def one_for_each_reduction() -> dict[str, dict[str, str]]:
    """Combinations that work, drawn at random."""
    rng = random.Random(1)
    found = {}
    for reduction in CHOICES["parallel.reduction"]:
        while True:
            choice = {key: rng.choice(values) for key, values in CHOICES.items()} | {"parallel.reduction": reduction}
            if not refused(choice):
                found[reduction] = choice
                break
    return found


def overrides(choice: dict[str, str]) -> list[str]:
    words = [f"{key}={value}" for key, value in choice.items()]
    return [*words, "loss.active=" + str(choice.get("train.nonfinite", "stop") != "stop").lower()]


def refused(choice: dict[str, str]) -> list[str]:
    """The keys that the message must name; []: the combination must work."""
    exact = choice.get("parallel.reduction", "exact") == "exact"
    local = "local" in choice.get("parallel.reduction", "exact")
    shared = choice.get("parallel.memory") == "node"
    sharded = choice.get("parallel.shard") == "optimizer"
    found = []
    if sharded and not exact:
        found.append("parallel.shard")
    if shared and not exact:
        found.append("parallel.memory")
    if "null" not in (choice.get("optimizer.clip_norm", "null"), choice.get("optimizer.clip_value", "null")):
        found.append("optimizer.clip_value")
    if local and choice.get("optimizer.ema", "null") != "null":
        found.append("optimizer.ema")
    return found
