"""Losses of the trainer: sums and counts that add up over workers, and metrics over a whole evaluation set."""

from __future__ import annotations

import math

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.comm import World
from allgrad.data import IGNORE, ArrayDataset, DataInfo
from allgrad.data.points import BOUNDARY, EXACT, INITIAL, INTERIOR, heat_equation_source
from allgrad.train.components.losses import CrossEntropy, HeatEquation, Regression
from allgrad.train.config import registry
from allgrad.train.config.errors import ConfigError
from allgrad.train.config.validation import check_monitor
from allgrad.train.evaluation import evaluate


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_cross_entropy_counts_what_is_not_ignored(rng) -> None:
    logits = rng.normal(size=(4, 6, 5))
    targets = rng.integers(0, 5, (4, 6))
    targets[1, 2:] = IGNORE
    part = {"inputs": logits, "targets": targets}
    loss, model = CrossEntropy(0.0), ag.tensor
    kept = targets != IGNORE
    rows = logits[kept] - logits[kept].max(axis=1, keepdims=True)
    expected = np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(rows)), targets[kept]]
    assert loss.counts(part) == {"loss": 20.0}
    assert loss.sums(model, part)["loss"].item() == pytest.approx(expected.sum())
    found = loss.metrics(loss.evaluate(model, part))
    assert found["loss"] == pytest.approx(expected.mean())
    assert found["accuracy"] == np.mean(logits[kept].argmax(axis=1) == targets[kept])


def test_label_smoothing_is_for_training_only(rng) -> None:
    part = {"inputs": rng.normal(size=(8, 3)), "targets": rng.integers(0, 3, 8)}
    smooth, plain = CrossEntropy(0.3), CrossEntropy(0.0)
    assert smooth.evaluate(ag.tensor, part) == plain.evaluate(ag.tensor, part)
    assert smooth.sums(ag.tensor, part)["loss"].item() != plain.sums(ag.tensor, part)["loss"].item()


def test_regression_metrics(rng) -> None:
    prediction, targets = rng.normal(size=(2, 50, 2))
    part = {"inputs": prediction, "targets": targets}
    loss = Regression(nn.L1Loss())
    found = loss.metrics(loss.evaluate(ag.tensor, part))
    error = prediction - targets
    assert found["loss"] == pytest.approx(np.abs(error).mean())
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean(error**2)))
    assert found["r2"] == pytest.approx(1 - np.sum(error**2) / np.sum((targets - targets.mean()) ** 2))
    constant = {"inputs": prediction, "targets": np.ones_like(targets)}
    assert math.isnan(loss.metrics(loss.evaluate(ag.tensor, constant))["r2"])


def test_the_heat_equations_solution_has_no_residual() -> None:
    """With the exact solution as the model every term vanishes, and with another one the terms are its squares."""
    alpha = 0.2
    source = heat_equation_source(alpha=alpha, interior=40, boundary=10, initial=10, grid=5, seed=0)
    part = {name: array.astype(np.float64 if array.dtype.kind == "f" else np.int64) for name, array in
            source.train.batch(np.arange(60)).items()}  # fmt: skip
    part["targets"] = np.where(part["kind"][:, None] == INITIAL, np.sin(np.pi * part["inputs"][:, :1]), part["targets"])
    loss = HeatEquation(alpha, boundary_weight=2.0, initial_weight=3.0)

    def exact(points):
        x, t = points[:, :1], points[:, 1:]
        return np.exp(-alpha * np.pi**2 * t) * np.sin(np.pi * x)

    assert loss.counts(part) == {"interior": 40.0, "boundary": 10.0, "initial": 10.0}
    assert all(abs(float(value)) < 1e-20 for value in loss.sums(exact, part).values())

    def other(points):  # u_t - alpha u_xx = 1 - 2 alpha
        return points[:, :1] ** 2 + points[:, 1:]

    sums = {name: float(value) for name, value in loss.sums(other, part).items()}
    kinds, points = part["kind"], part["inputs"]
    error = other(points) - part["targets"]
    assert sums["interior"] == pytest.approx(40 * (1 - 2 * alpha) ** 2)
    assert sums["boundary"] == pytest.approx(2 * np.sum(error[kinds == BOUNDARY] ** 2))
    assert sums["initial"] == pytest.approx(3 * np.sum(error[kinds == INITIAL] ** 2))
    assert INTERIOR not in (BOUNDARY, INITIAL, EXACT)


def test_every_loss_reports_what_it_says() -> None:
    registry.load_builtin()
    shapes = {"classes": ((), np.int64), "values": ((1,), np.float32), "points": ((1,), np.float32)}
    for name in registry.losses.names():
        kind = {"cross_entropy": "classes", "heat_equation": "points"}.get(name, "values")
        loss = registry.losses[name].factory(DataInfo(kind, (2,), 1, {"alpha": 0.1}))
        shape, dtype = shapes[kind]
        part = {"inputs": np.ones((3, 2), np.float32), "targets": np.ones((3, *shape), dtype) * (kind != "classes")}
        part["targets"] = part["targets"].astype(dtype)
        part["kind"] = np.full(3, EXACT)
        width = 2 if kind == "classes" else 1
        found = loss.metrics(loss.evaluate(lambda x, n=width: ag.tensor(x[:, :n]), part))
        assert tuple(found) == loss.reports
        check_monitor("loss", loss)
        with pytest.raises(ConfigError, match=r"train\.monitor\.metric"):
            check_monitor("nothing", loss)


# Evaluation.


class Mean(nn.Module):
    """Predicts its inputs, and notes the mode that it ran in."""

    def __init__(self) -> None:
        self.modes: list[bool] = []

    def forward(self, x):
        self.modes.append(self.training)
        return ag.tensor(x)


@pytest.mark.parametrize(("count", "total", "size"), [(37, 4, 10), (3, 8, 100), (40, 1, 7)])
def test_evaluation_sees_every_sample_once_and_leaves_the_model_as_it_was(rng, count, total, size) -> None:
    inputs, targets = rng.normal(size=(2, count, 1))
    data, model, loss = ArrayDataset({"inputs": inputs, "targets": targets}), Mean(), Regression(nn.MSELoss())
    found = evaluate(model, loss, data, World(), workers=range(total), virtual_workers=total, size=size)
    assert found["loss"] == pytest.approx(np.mean((inputs - targets) ** 2))
    assert model.training
    assert not any(model.modes)

    class Broken(Regression):
        def evaluate(self, model, part):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate(model, Broken(nn.MSELoss()), data, World(), workers=range(total), virtual_workers=total, size=size)
    assert model.training
