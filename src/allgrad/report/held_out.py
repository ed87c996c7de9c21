"""What a run's model does on its held-out data: a confusion matrix for classes, predicted against true for values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.datasets import IGNORE
from allgrad.data.preprocess import decode_values
from allgrad.report.figures import COLOURS, escaped
from allgrad.train.evaluation import Evaluator
from allgrad.train.run.build import load_trainer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allgrad.data.datasets import Batch
    from allgrad.report.figures import Figure

    Array = np.ndarray[Any, Any]

__all__ = ["HeldOut", "confusion", "evaluate_held_out"]

_MOST_CLASSES, _MOST_DOTS, _MOST_VALUES = 40, 2000, 4


@dataclass(frozen=True)
class HeldOut:
    """The result of an evaluation.

    Attributes:
        step: after how many steps the weights were saved.
        samples: how many held-out samples there are.
        metrics: as an evaluation reports them.
        figures: title -> figure.
    """

    step: int
    samples: int
    metrics: dict[str, Any]
    figures: dict[str, Figure] = field(repr=False)


def evaluate_held_out(directory: Path, *, best: bool, plugins: Sequence[str | Path] = ()) -> HeldOut:
    """Evaluate a run's newest checkpoint, or its best one, in this process.

    Raises:
        AllgradError: the run has no checkpoint, or its data can no longer be read.
    """
    trainer = load_trainer(directory, best=best, plugins=plugins)
    kind, valid = trainer.info.kind, trainer.source.valid
    outputs = _Outputs(kind)
    evaluator = Evaluator(trainer.evaluator.loss, [*trainer.evaluator.metrics, outputs])
    with trainer.evaluated_weights():
        metrics = evaluator.run(
            trainer.model, valid, trainer.world,
            workers=trainer.replica.workers, virtual_workers=trainer.replica.virtual_workers,
            size=trainer.config.batch.eval_size or trainer.config.batch.size,
        )  # fmt: skip
    figures: dict[str, Figure] = {}
    if kind == "classes":
        names = trainer.info.extra.get("classes") or [str(number) for number in range(trainer.info.outputs)]
        figures["Confusion matrix"] = confusion(outputs.predicted, outputs.true, [str(name) for name in names])
    elif kind in ("values", "points"):
        figures = _against_true(outputs.predicted, outputs.true, trainer.data_record.fitted)
    return HeldOut(trainer.progress.step, len(valid), metrics, figures)


class _Outputs:
    """Looks like a metric and keeps what the model said, and what is true, for each sample."""

    gathered = True

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.names: tuple[str, ...] = ()
        self.predicted = self.true = np.zeros(0)

    def sums(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        if self.kind == "tokens":
            return {}
        targets = batch["targets"]
        if self.kind == "classes":
            return {"predicted": np.argmax(outputs, axis=-1), "true": targets}
        rows = len(targets)
        return {"predicted": outputs.reshape(rows, -1), "true": targets.reshape(rows, -1)}

    def results(self, sums: Mapping[str, Any]) -> dict[str, float]:
        if sums:
            self.predicted, self.true = sums["predicted"], sums["true"]
        return {}


def confusion(predicted: Array, true: Array, names: Sequence[str]) -> Figure:
    """How often each class was predicted for each true class; the most frequent classes, if there are many.

    Args:
        predicted, true: (samples,) numbers of classes.
        names: of the classes.
    """
    counted = true != IGNORE
    predicted, true = predicted[counted].astype(int), true[counted].astype(int)
    table = np.zeros((len(names), len(names)), int)
    np.add.at(table, (true, predicted), 1)
    kept = np.sort(np.argsort(-table.sum(axis=1), kind="stable")[:_MOST_CLASSES])
    table = table[np.ix_(kept, kept)]
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    labels = [escaped(names[number]) for number in kept]
    heatmap = {
        "type": "heatmap",
        "z": (100 * share).round(2).tolist(),
        "customdata": table.tolist(),
        "x": list(range(len(kept))),
        "y": list(range(len(kept))),
        "colorscale": [[0, "rgba(63,136,197,0.06)"], [1, "rgb(63,136,197)"]],
        "zmin": 0,
        "zmax": 100,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": "% of the true class", "side": "right"}, "thickness": 12},
        "hovertemplate": "predicted %{x}, true %{y}<br>%{customdata} samples, %{z:.1f} % of this class<extra></extra>",
    }
    if len(kept) <= 12:
        heatmap |= {"text": table.tolist(), "texttemplate": "%{text}"}
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(kept))), "ticktext": labels}
    ticks |= {"showgrid": False, "zeroline": False}
    layout = {
        "xaxis": {"title": {"text": "predicted"}, **ticks},
        "yaxis": {"title": {"text": "true"}, "autorange": "reversed", **ticks},
        "hovermode": "closest",
    }
    return {"data": [heatmap], "layout": layout, "height": 400}


def _against_true(predicted: Array, true: Array, fitted: Mapping[str, Any]) -> dict[str, Figure]:
    """Predicted over true values, in the target's units where the preprocessing knows them."""
    target = fitted.get("target", {}) if fitted.get("kind") == "table" else {}
    if target:
        predicted, true = decode_values(predicted, fitted), decode_values(true, fitted)
    figures = {}
    for column in range(min(true.shape[1], _MOST_VALUES)):
        name = str(target.get("name") or ("target" if true.shape[1] == 1 else f"target {column}"))
        figures[f"Predicted against true: {name}"] = _scatter(predicted[:, column], true[:, column])
    return figures


def _scatter(predicted: Array, true: Array) -> Figure:
    chosen = np.linspace(0, len(true) - 1, min(len(true), _MOST_DOTS)).astype(int)
    x, y = true[chosen], predicted[chosen]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "samples" if len(chosen) == len(true) else f"{len(chosen):,} of {len(true):,} samples",
        "x": x.tolist(),
        "y": y.tolist(),
        "marker": {"size": 4 if len(x) > 500 else 7, "opacity": 0.5, "color": COLOURS[0]},
        "hovertemplate": "true %{x:.5g}<br>predicted %{y:.5g}<extra></extra>",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "equal",
        "x": [low, high],
        "y": [low, high],
        "line": {"color": COLOURS[1], "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
    }
    layout = {"xaxis": {"title": {"text": "true"}}, "yaxis": {"title": {"text": "predicted"}}, "hovermode": "closest"}
    return {"data": [dots, line], "layout": layout | {"showlegend": True}, "height": 400}
