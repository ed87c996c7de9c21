"""The inputs and outputs of an ONNX file: a run's stored preprocessing as a part of the graph.

| trained on | inputs | outputs |
|---|---|---|
| a table | one per column, (rows, 1): float64 for numbers and for dates (seconds since 1970 UTC, NaN if missing), text for categories (empty if missing) | `prediction` |
| images | `pixels`, uint8 (rows, height, width, channels) | `prediction`, `probabilities` |
| a text | `tokens`, int64 (rows, length) | `logits` of the next token at every place |
| others | `inputs`, float32 (rows, *shape) | `prediction`, and `probabilities` of classes |

Classes come as names where the data had names. A row with a missing value that the model was not trained for gives NaN, and an
unseen category is an error of the run time, unless the run says `unseen: ignore`.
"""  # noqa: E501

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.dates import PERIODS
from allgrad.data.rows import label_names
from allgrad.interop.onnx.graph import ML

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.data import DataInfo
    from allgrad.interop.onnx.graph import GraphBuilder

__all__ = ["add_inputs", "add_outputs"]

ROWS = "rows"


def add_inputs(graph: GraphBuilder, info: DataInfo, fitted: Mapping[str, Any]) -> str:
    """The file's inputs, prepared for the model."""
    kind = fitted.get("kind")
    if kind == "table":
        with graph.inside("preprocessing"):
            parts = [_COLUMNS[column["type"]](graph, column, fitted["missing"]) for column in fitted["columns"]]
            return graph.op("Concat", *parts, axis=1)
    if kind == "images":
        pixels = graph.cast(graph.input("pixels", np.uint8, [ROWS, *info.input_shape]), np.float32)
        centred = graph.op("Sub", pixels, graph.number(255 * fitted["mean"]))
        return graph.op("Mul", centred, graph.number(1 / (255 * fitted["scale"])))
    if info.kind == "tokens":
        return graph.input("tokens", np.int64, [ROWS, "length"])
    return graph.input("inputs", np.float32, [ROWS, *info.input_shape])


def add_outputs(graph: GraphBuilder, info: DataInfo, fitted: Mapping[str, Any], inputs: str, outputs: str) -> None:
    """The file's outputs from those of the model; `inputs` are the prepared ones."""
    if info.kind == "tokens":
        graph.output("logits", outputs, np.float32, [ROWS, "length", info.outputs])
        return
    if fitted.get("kind") == "table":
        outputs = _unknown_where_missing(graph, inputs, outputs)
    names = label_names(info, fitted)
    if names is None:
        _add_values(graph, fitted, outputs, info.outputs)
        return
    label = graph.op("ArgMax", outputs, axis=1, keepdims=0)
    if isinstance(names[0], str):
        label = graph.op("LabelEncoder", label, domain=ML, keys_int64s=list(range(len(names))), values_strings=names)
    graph.output("prediction", label, str if isinstance(names[0], str) else np.int64, [ROWS])
    graph.output("probabilities", graph.op("Softmax", outputs, axis=1), np.float32, [ROWS, len(names)])


def _add_values(graph: GraphBuilder, fitted: Mapping[str, Any], outputs: str, count: int) -> None:
    if fitted.get("kind") != "table":
        graph.output("prediction", outputs, np.float32, [ROWS, count])
        return
    target = fitted["target"]
    values = graph.op("Mul", graph.cast(outputs, np.float64), graph.number(target["scale"], np.float64))
    values = graph.op("Add", values, graph.number(target["mean"], np.float64))
    if target["transform"] != "none":
        values = graph.op("Exp", values)
    if target["transform"] == "log1p":
        values = graph.op("Sub", values, graph.number(1, np.float64))
    graph.output("prediction", graph.reshape(values, -1), np.float64, [ROWS])


def _unknown_where_missing(graph: GraphBuilder, inputs: str, outputs: str) -> str:
    """NaN for rows with a NaN among the inputs, which an activation such as ReLU may lose."""
    missing = graph.cast(graph.op("IsNaN", inputs), np.float32)
    any_missing = graph.op("Greater", graph.op("ReduceMax", missing, axes=[1], keepdims=1), graph.number(0))
    return graph.op("Where", any_missing, graph.number(np.nan), outputs)


def _numeric(graph: GraphBuilder, column: Mapping[str, Any], missing: str) -> str:
    return _scaled(graph, graph.input(column["name"], np.float64, [ROWS, 1]), column, missing)


def _ordinal(graph: GraphBuilder, column: Mapping[str, Any], missing: str) -> str:
    text = graph.input(column["name"], str, [ROWS, 1])
    ranks = [float(rank) for rank in range(len(column["order"]))]
    rank = graph.op(
        "LabelEncoder", text, domain=ML, keys_strings=column["order"], values_floats=ranks, default_float=float("nan")
    )
    return _scaled(graph, graph.cast(rank, np.float64), column, missing)


def _date(graph: GraphBuilder, column: Mapping[str, Any], missing: str) -> str:
    seconds = graph.input(column["name"], np.float64, [ROWS, 1])
    absent = graph.op("IsNaN", seconds)
    periods = [period for name, period in PERIODS.items() if column["clock"] or name != "day"]
    waves = []
    for period in periods:
        place = graph.op(
            "Mod", graph.op("Div", seconds, graph.number(period, np.float64)), graph.number(1, np.float64), fmod=1
        )
        angle = graph.op("Mul", place, graph.number(2 * np.pi, np.float64))
        for shift in (0.0, np.pi / 2):  # the cosine is the sine a quarter later
            wave = graph.op("Sin", graph.op("Add", angle, graph.number(shift, np.float64)))
            if missing in ("mean", "category"):
                wave = graph.op("Where", absent, graph.number(0, np.float64), wave)
            waves.append(graph.cast(wave, np.float32))
    return _scaled(graph, seconds, column, missing, *waves)


def _scaled(graph: GraphBuilder, values: str, column: Mapping[str, Any], missing: str, *more: str) -> str:
    """(value - mean) / scale, then `more`, then what is missing."""
    mean = graph.number(column["mean"], np.float64)
    absent = graph.op("IsNaN", values)
    if missing == "mean" or column.get("missing"):
        values = graph.op("Where", absent, mean, values)
    scaled = graph.op("Div", graph.op("Sub", values, mean), graph.number(column["scale"], np.float64))
    parts = [graph.cast(scaled, np.float32), *more]
    parts += [graph.cast(absent, np.float32)] if column.get("missing") else []
    return parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1)


def _categorical(graph: GraphBuilder, column: Mapping[str, Any], missing: str) -> str:
    text = graph.input(column["name"], str, [ROWS, 1])
    names = list(column["categories"]) + ([""] if missing == "mean" else [])
    ignore = int(column.get("unseen") == "ignore")
    shares = graph.op("OneHotEncoder", text, domain=ML, cats_strings=names, zeros=ignore)
    shares = graph.reshape(shares, 0, len(names))
    if missing == "mean":
        rows = np.vstack([np.eye(len(names) - 1), column["shares"]]).astype(np.float32)
        shares = graph.op("MatMul", shares, graph.constant(rows, "shares"))
    return shares


_COLUMNS = {"numeric": _numeric, "ordinal": _ordinal, "date": _date, "categorical": _categorical}
