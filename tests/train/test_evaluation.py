"""Evaluation: every sample once, the same numbers at any cut, the model as it was."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.comm import World
from allgrad.data import ArrayDataset
from allgrad.train.components.losses import CrossEntropy, Regression
from allgrad.train.components.metrics import AUC, F1, Accuracy, RootMeanSquareError
from allgrad.train.evaluation import Evaluator, non_finite


class Identity(nn.Module):
    """Predicts its inputs, and notes the mode that it ran in."""

    def __init__(self) -> None:
        self.modes: list[bool] = []

    def forward(self, x):
        self.modes.append(self.training)
        return ag.tensor(x)


def run(evaluator, model, data, workers=4, size=10):
    return evaluator.run(model, data, World(), workers=range(workers), virtual_workers=workers, size=size)


@pytest.mark.parametrize(("count", "workers", "size"), [(37, 4, 10), (3, 8, 100), (40, 1, 7)])
def test_it_sees_every_sample_once_and_leaves_the_model_as_it_was(count, workers, size) -> None:
    inputs, targets = np.random.default_rng(0).normal(size=(2, count, 1))
    data, model = ArrayDataset({"inputs": inputs, "targets": targets}), Identity()
    found = run(Evaluator(Regression(nn.MSELoss()), [RootMeanSquareError()]), model, data, workers, size)
    assert found["loss"] == pytest.approx(np.mean((inputs - targets) ** 2))
    assert found["rmse"] == pytest.approx(np.sqrt(found["loss"]))
    assert model.training
    assert not any(model.modes)

    class Broken(Regression):
        def evaluate(self, outputs, batch):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Evaluator(Broken(nn.MSELoss()), []), model, data)
    assert model.training


def test_sums_arrays_and_rows_of_several_metrics() -> None:
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(23, 2)), rng.integers(0, 2, 23)
    data = ArrayDataset({"inputs": logits, "targets": targets})
    evaluator = Evaluator(CrossEntropy(0.0), [Accuracy(), F1(2), AUC()])
    assert evaluator.names == ("loss", "accuracy", "f1", "auc")
    one = run(evaluator, Identity(), data, workers=1, size=23)
    many = run(evaluator, Identity(), data, workers=5, size=6)
    assert many == pytest.approx(one)
    assert one["accuracy"] == np.mean(logits.argmax(axis=1) == targets)
    assert one["auc"] == AUC().results(AUC().sums(logits, {"targets": targets}))["auc"]


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="Two metrics report the same name: accuracy"):
        Evaluator(CrossEntropy(0.0), [Accuracy(), Accuracy()])


def test_non_finite_metrics_are_named() -> None:
    assert non_finite({"loss": 1.0, "r2": float("nan"), "rmse": float("inf")}) == ["r2", "rmse"]


def metrics_over_ranks():
    import numpy as np

    import allgrad as ag
    from allgrad import comm, nn
    from allgrad.comm import block
    from allgrad.data import ArrayDataset
    from allgrad.train.components.losses import CrossEntropy
    from allgrad.train.components.metrics import AUC, F1
    from allgrad.train.evaluation import Evaluator

    class Identity(nn.Module):
        def forward(self, x):
            return ag.tensor(x)

    world = comm.init()
    rng = np.random.default_rng(2)
    data = ArrayDataset({"inputs": rng.normal(size=(9, 2)), "targets": rng.integers(0, 2, 9)})
    workers = block(world.rank, world.size, 8)  # batches of 3 over 8 workers: most are empty
    evaluator = Evaluator(CrossEntropy(0.0), [F1(2), AUC()])
    return evaluator.run(Identity(), data, world, workers=workers, virtual_workers=8, size=3)


def test_the_same_bits_at_any_rank_count(mpirun) -> None:
    alone = mpirun(metrics_over_ranks, 1).values[0]
    assert mpirun(metrics_over_ranks, 3).values == [alone] * 3
