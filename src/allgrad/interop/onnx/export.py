"""A run's model as an ONNX file, checked against onnxruntime before it is written."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import no_grad
from allgrad.data.csv_files import Table
from allgrad.data.dates import date_seconds
from allgrad.interop.onnx import layers, models, recurrent  # noqa: F401 (their converters register themselves)
from allgrad.interop.onnx.converters import ExportError, convert
from allgrad.interop.onnx.graph import OPSET, GraphBuilder
from allgrad.interop.onnx.preprocessing import add_inputs, add_outputs
from allgrad.train.checkpoint.format import weights_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from allgrad.train.run.predictor import Predictor

__all__ = ["TOLERANCE", "Exported", "check", "export_model", "random_inputs"]

TOLERANCE = 1e-5
"""How far onnxruntime's outputs may be from the model's, relative to the larger of 1 and their size."""

_LARGEST = 2 << 30  # bytes: protobuf's limit


@dataclass(frozen=True)
class Exported:
    """An ONNX file.

    Attributes:
        content: its bytes.
        inputs, outputs: their names.
        opset: the version of ONNX's operators.
        error: the largest difference from the model on random inputs, relative to the larger of 1 and the size of the output;
            None if onnxruntime is not installed.
    """

    content: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    error: float | None


def export_model(predictor: Predictor) -> Exported:
    """A trained model with its preprocessing as ONNX, for any number of rows.

    Raises:
        ExportError: onnx is not installed, a layer has no converter, the file would be too large, or onnxruntime's outputs are
            not the model's.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ExportError("Writing ONNX needs the package onnx. Install it with `pip install allgrad[onnx]`.")
    if (size := sum(p.value.nbytes for p in predictor.model.parameters())) >= _LARGEST:
        raise ExportError(f"The model has {size:,} bytes of weights. A single ONNX file has room for 2 GiB.")
    graph = GraphBuilder()
    inputs = add_inputs(graph, predictor.info, predictor.fitted)
    add_outputs(graph, predictor.info, predictor.fitted, inputs, convert(predictor.model, graph, inputs))
    metadata = {"weights_sha256": weights_sha256(predictor.model.state_dict()), "step": str(predictor.step)}
    content = graph.model(metadata).SerializeToString()
    error = check(content, predictor) if importlib.util.find_spec("onnxruntime") is not None else None
    names, outputs = (tuple(name for name, *_ in values) for values in (graph.inputs, graph.outputs))
    return Exported(content, names, outputs, OPSET, error)


def check(content: bytes, predictor: Predictor, *, seed: int = 0) -> float:
    """The largest difference between onnxruntime and the model on random rows, one and several at once; see `Exported.error`.

    Raises:
        ExportError: it is above `TOLERANCE`, or onnxruntime cannot run the file.
    """
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each of its errors
        raise ExportError(f"onnxruntime cannot load the exported model: {error}") from error
    worst = 0.0
    rng = np.random.default_rng(seed)
    for rows in (1, 9):
        feed, given = random_inputs(rng, predictor, rows)
        found = dict(zip([each.name for each in session.get_outputs()], session.run(None, feed), strict=True))
        for name, expected in _expected(predictor, given).items():
            difference = np.abs(found[name].astype(np.float64).reshape(expected.shape) - expected)
            worst = max(worst, float(np.max(difference / np.maximum(1, np.abs(expected)))))
    if not worst <= TOLERANCE:
        raise ExportError(
            f"onnxruntime's outputs differ from the model's by {worst:.1e}, more than {TOLERANCE:.0e}. Nothing was written."
        )
    return worst


def _expected(predictor: Predictor, rows: Any) -> dict[str, NDArray[np.float64]]:
    """The model's own outputs under the names of the file's, without labels, which may tie."""
    if predictor.info.kind == "tokens":
        with no_grad():
            return {"logits": predictor.model(rows).numpy().astype(np.float64)}
    if predictor.classes is not None:
        return {"probabilities": predictor.predict_proba(rows)}
    return {"prediction": predictor.predict(rows)}


def random_inputs(rng: np.random.Generator, predictor: Predictor, rows: int) -> tuple[dict[str, Any], Any]:
    """Random rows like those that a model was trained on: as onnxruntime takes them, and as `Predictor.predict` does."""
    info, fitted = predictor.info, predictor.fitted
    if fitted.get("kind") == "table":
        feed: dict[str, Any] = {}
        given: dict[str, Any] = {}
        for column in fitted["columns"]:
            feed[column["name"]], given[column["name"]] = _random_column(rng, column, rows)
        return feed, given
    if fitted.get("kind") == "images":
        pixels = rng.integers(0, 256, (rows, *info.input_shape)).astype(np.uint8)
        return {"pixels": pixels}, pixels
    if info.kind == "tokens":
        tokens = rng.integers(0, info.outputs, (rows, info.input_shape[0]))
        return {"tokens": tokens}, tokens
    inputs = rng.normal(size=(rows, *info.input_shape)).astype(np.float32)
    return {"inputs": inputs}, inputs


def _random_column(rng: np.random.Generator, column: Mapping[str, Any], rows: int) -> tuple[NDArray[Any], Any]:
    if column["type"] in ("categorical", "ordinal"):
        names = column["categories"] if column["type"] == "categorical" else column["order"]
        texts = [str(name) for name in rng.choice(np.array(names, dtype=object), rows)]
        return np.array(texts, dtype=object)[:, None], texts
    values = column["mean"] + column["scale"] * rng.normal(size=rows)
    if column["type"] == "numeric":
        return values[:, None], values
    values = np.round(values) if column["clock"] else np.round(values / 86400) * 86400
    epoch = datetime.datetime(1970, 1, 1)
    moments = [epoch + datetime.timedelta(seconds=value) for value in values.tolist()]
    written = column["format"]
    texts = [moment.isoformat() if written == "iso" else moment.strftime(written) for moment in moments]
    # A format may leave out seconds, so the file gets what the texts say.
    return date_seconds(Table({"date": texts}), "date", written)[:, None], texts
