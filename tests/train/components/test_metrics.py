"""Metrics against scikit-learn, where it is installed, and against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from allgrad.data import IGNORE, DataInfo
from allgrad.train.components.metrics import (
    AUC,
    DEFAULTS,
    F1,
    R2,
    Accuracy,
    Confusion,
    MeanAbsoluteError,
    RelativeL2,
    RootMeanSquareError,
)
from allgrad.train.config import registry
from allgrad.train.config.errors import ConfigError
from allgrad.train.config.registry import ComponentError
from allgrad.train.config.validation import check_monitor


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def added(metric, outputs, targets, cut: int = 7):
    """The metric over two batches whose sums are added."""
    one = metric.sums(outputs[:cut], {"targets": targets[:cut]})
    two = metric.sums(outputs[cut:], {"targets": targets[cut:]})
    if getattr(metric, "gathered", False):
        return metric.results({name: np.concatenate([one[name], two[name]]) for name in one})
    return metric.results({name: np.asarray(one[name]) + np.asarray(two[name]) for name in one})


def test_classes(rng) -> None:
    outputs, targets = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    predicted = outputs.argmax(axis=1)
    assert added(Accuracy(), outputs, targets) == {"accuracy": np.mean(predicted == targets)}
    scores = []
    for c in range(5):  # class 4 never occurs
        hits = np.sum((predicted == c) & (targets == c))
        either = np.sum(predicted == c) + np.sum(targets == c)
        scores.append(2 * hits / either if either else 0.0)
    assert added(F1(5), outputs, targets)["f1"] == pytest.approx(np.mean(scores))


def test_ignored_targets_do_not_count(rng) -> None:
    outputs, targets = rng.normal(size=(2, 6, 3)), rng.integers(0, 3, (2, 6))
    targets[0, 2:] = IGNORE
    kept = targets != IGNORE
    right = outputs.argmax(axis=-1) == targets
    assert Accuracy().results(Accuracy().sums(outputs, {"targets": targets}))["accuracy"] == np.mean(right[kept])


def test_area_under_the_curve_is_the_share_of_pairs_in_order(rng) -> None:
    outputs = rng.integers(0, 5, (40, 2)).astype(np.float32)  # with ties
    targets = rng.integers(0, 2, 40)
    score = outputs[:, 1] - outputs[:, 0]
    ones, zeros = score[targets == 1], score[targets == 0]
    pairs = np.mean((ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros))
    assert added(AUC(), outputs, targets)["auc"] == pytest.approx(pairs)
    assert math.isnan(added(AUC(), outputs, np.zeros(40, np.int64))["auc"])


def test_values(rng) -> None:
    prediction, targets = rng.normal(size=(2, 50, 2))
    error = prediction - targets
    assert added(RootMeanSquareError(), prediction, targets)["rmse"] == pytest.approx(math.sqrt(np.mean(error**2)))
    expected = 1 - np.sum(error**2) / np.sum((targets - targets.mean()) ** 2)
    assert added(R2(), prediction, targets)["r2"] == pytest.approx(expected)
    assert math.isnan(added(R2(), prediction, np.ones_like(targets))["r2"])
    relative = np.linalg.norm(error) / np.linalg.norm(targets)
    assert added(RelativeL2(), prediction, targets)["relative_l2"] == pytest.approx(relative)


def test_against_scikit_learn(rng) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn where it is installed")
    outputs, targets = rng.normal(size=(60, 2)), rng.integers(0, 2, 60)
    predicted, score = outputs.argmax(axis=1), outputs[:, 1] - outputs[:, 0]
    assert added(F1(2), outputs, targets)["f1"] == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
    assert added(AUC(), outputs, targets)["auc"] == pytest.approx(metrics.roc_auc_score(targets, score))


def test_every_metric_reports_what_it_says(rng) -> None:
    registry.load_builtin()
    assert {name for names in DEFAULTS.values() for name in names} <= set(registry.metrics.names())
    for name in registry.metrics.names():
        kind = "classes" if "classes" in registry.metrics[name].kinds else registry.metrics[name].kinds[0]
        metric = registry.metrics[name].factory(DataInfo(kind, (2,), 2, {}))
        targets = rng.integers(0, 2, 9) if kind == "classes" else rng.normal(size=(9, 2))
        assert tuple(added(metric, rng.normal(size=(9, 2)), targets)) == metric.names


def test_what_does_not_fit_is_refused() -> None:
    registry.load_builtin()
    section = type("Section", (), {"name": "auc", "options": lambda self: {}})()
    with pytest.raises(ComponentError, match="it is defined for 2 classes or more, and the data have 1"):
        registry.metrics.build(section, DataInfo("classes", (2,), 1, {}))
    check_monitor("loss", ("loss", "f1"))
    with pytest.raises(
        ConfigError, match=r"train\.monitor\.metric: accuracy is not reported\. Evaluations report loss, f1"
    ):
        check_monitor("accuracy", ("loss", "f1"))


def test_the_confusion_matrix_and_the_areas_of_several_classes_are_those_of_scikit_learn(rng) -> None:
    peer = pytest.importorskip("sklearn.metrics", reason="scikit-learn is what is compared with")
    outputs, targets = rng.normal(size=(60, 4)), rng.integers(0, 4, 60)
    expected = peer.confusion_matrix(targets, outputs.argmax(axis=1), labels=range(5)).tolist()
    assert added(Confusion(5), np.pad(outputs, ((0, 0), (0, 1)), constant_values=-9), targets)["confusion"] == expected
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert added(AUC(), outputs, targets)["auc"] == pytest.approx(
        peer.roc_auc_score(targets, shares, multi_class="ovr")
    )


def test_errors_of_a_table_are_in_the_units_of_its_target(rng) -> None:
    peer = pytest.importorskip("sklearn.metrics", reason="scikit-learn is what is compared with")
    info = DataInfo("values", (1,), 1, {"target_mean": 7.0, "target_scale": 2.0, "target_transform": "log"})
    outputs, targets = rng.normal(size=(2, 50, 1))
    predicted, true = np.exp(7 + 2 * outputs), np.exp(7 + 2 * targets)
    rmse, mae = (registry.metrics[name].factory(info) for name in ("rmse", "mae"))
    assert isinstance(mae, MeanAbsoluteError)
    assert added(rmse, outputs, targets)["rmse"] == pytest.approx(peer.root_mean_squared_error(true, predicted))
    assert added(mae, outputs, targets)["mae"] == pytest.approx(peer.mean_absolute_error(true, predicted))
