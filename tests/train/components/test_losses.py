"""Losses of the trainer: sums and counts that add up over workers."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.data import IGNORE, DataInfo
from allgrad.data.points import BOUNDARY, EXACT, INITIAL, INTERIOR, heat_equation_source
from allgrad.train.components.losses import CrossEntropy, HeatEquation, Regression, cross_entropy


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
    total, count = loss.evaluate(model(logits), part)
    assert (total, count) == (pytest.approx(expected.sum()), 20.0)


def test_label_smoothing_is_for_training_only(rng) -> None:
    part = {"inputs": rng.normal(size=(8, 3)), "targets": rng.integers(0, 3, 8)}
    smooth, plain = CrossEntropy(0.3), CrossEntropy(0.0)
    logits = ag.tensor(part["inputs"])
    assert smooth.evaluate(logits, part) == plain.evaluate(logits, part)
    assert smooth.sums(ag.tensor, part)["loss"].item() != plain.sums(ag.tensor, part)["loss"].item()


def test_regression(rng) -> None:
    prediction, targets = rng.normal(size=(2, 50, 2))
    part = {"inputs": prediction, "targets": targets}
    loss = Regression(nn.L1Loss())
    assert loss.evaluate(ag.tensor(prediction), part) == (pytest.approx(np.abs(prediction - targets).sum()), 100.0)
    assert loss.sums(ag.tensor, part)["loss"].item() == pytest.approx(np.abs(prediction - targets).sum())


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


def test_the_heat_equation_is_evaluated_against_the_exact_solution(rng) -> None:
    prediction, exact = rng.normal(size=(2, 7, 1))
    part = {"targets": exact, "kind": np.full(7, EXACT)}
    total, count = HeatEquation(0.1, 1.0, 1.0).evaluate(ag.tensor(prediction), part)
    assert (total, count) == (pytest.approx(np.sum((prediction - exact) ** 2)), 7.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_classes_are_those_of_pytorch(rng, smoothing) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what is compared with")
    logits, labels = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 3, 40)
    info = DataInfo("classes", (3,), 3, {"classes": ["a", "b", "c"], "class_counts": [30, 6, 0]})
    loss = cross_entropy(info, label_smoothing=smoothing, class_weights={"b": 4.0, "c": 0.5})
    batch = {"inputs": logits, "targets": labels}
    mean = loss.sums(lambda x: ag.tensor(x), batch)["loss"].item() / loss.counts(batch)["loss"]
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), weight=torch.tensor([1.0, 4.0, 0.5]), label_smoothing=smoothing
    )
    assert mean == pytest.approx(float(expected), rel=1e-5)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    peer = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is what is compared with")
    labels = np.repeat([0, 1, 2], [30, 6, 4])
    info = DataInfo("classes", (1,), 3, {"class_counts": np.bincount(labels).tolist()})
    loss = cross_entropy(info, class_weights="balanced")
    expected = peer.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    for label in range(3):
        assert loss.counts({"targets": np.array([label])})["loss"] == pytest.approx(expected[label])
    assert loss.counts({"targets": np.array([0, IGNORE])})["loss"] == pytest.approx(expected[0])


@pytest.mark.parametrize(
    ("info", "weights", "message"),
    [
        (
            DataInfo("classes", (1,), 2, {"classes": ["a", "b"]}),
            {"x": 1.0},
            "class_weights names 'x'. The classes are 'a', 'b'",
        ),
        (DataInfo("tokens", (1,), 2), "balanced", "needs data with class labels"),
    ],
)
def test_weights_that_do_not_fit_are_refused(info, weights, message) -> None:
    with pytest.raises(ValueError, match=message):
        cross_entropy(info, class_weights=weights)
