"""Registries with stand-ins for the models, losses, optimizers and schedules, so that the schema can be tested without them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from allgrad.train.config import registry

KINDS = ("models", "datasets", "losses", "optimizers", "schedules")


def gpt(info: Any, *, layers: int = 4, width: int = 128, dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> Any:
    """A transformer."""
    return ("gpt", info, layers, width, dropout)


def mlp(info: Any, *, hidden: tuple[int, ...] = (512,), activation: Literal["relu", "gelu"] = "relu") -> Any:
    return ("mlp", info, hidden, activation)


def cross_entropy(info: Any, *, label_smoothing: float = 0.0) -> Any:
    return ("cross_entropy", info, label_smoothing)


def mse(info: Any) -> Any:
    return ("mse", info)


class AdamW:
    def __init__(
        self, groups: Any, *, lr: float, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.01
    ) -> None:
        self.options = (groups, lr, betas, weight_decay)


class SGD:
    def __init__(self, groups: Any, *, lr: float, momentum: float = 0.0) -> None:
        self.options = (groups, lr, momentum)


def cosine(steps: int, *, final: float = 0.0) -> Any:
    return ("cosine", steps, final)


def constant(steps: int) -> Any:
    return ("constant", steps)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries that hold the data sets and the stand-ins of this file, and are put back afterwards."""
    registry.load_builtin()
    monkeypatch.setattr(registry, "BUILTIN", ())
    for kind in KINDS:
        held = getattr(registry, kind)
        monkeypatch.setattr(held, "_entries", dict(held._entries) if kind == "datasets" else {})
    registry.register_model("gpt")(gpt)
    registry.register_model("mlp")(mlp)
    registry.register_loss("cross_entropy")(cross_entropy)
    registry.register_loss("mse")(mse)
    registry.register_optimizer("adamw")(AdamW)
    registry.register_optimizer("sgd")(SGD)
    registry.register_schedule("cosine")(cosine)
    registry.register_schedule("constant")(constant)
