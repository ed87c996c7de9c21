"""Exported models in onnxruntime: every shipped model, every layer with a converter, the preprocessing of tables."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from runs import train

pytest.importorskip("onnx", reason="ONNX files are written with the package onnx")
pytest.importorskip("onnxruntime", reason="onnxruntime is what is compared with")

import onnxruntime as runtime

import allgrad
from allgrad import nn, no_grad
from allgrad.cli.main import main
from allgrad.data import DataInfo
from allgrad.interop.onnx import converters, export, layers
from allgrad.interop.onnx.converters import ExportError, convert, register_converter
from allgrad.interop.onnx.export import TOLERANCE, export_model
from allgrad.interop.onnx.graph import OPSET, GraphBuilder
from allgrad.train.run.model import LoadedModel
from allgrad.train.run.predictor import Predictor

models = nn.models
IMAGES = {"kind": "images", "mean": 0.3, "scale": 0.2, "classes": 4}
TEXT = {"kind": "text", "unit": "tokens", "vocabulary": None}
PLAIN = {"kind": "arrays"}


def predictor(model: nn.Module, info: DataInfo, fitted: dict) -> Predictor:
    rng = np.random.default_rng(1)
    for module in model.modules():  # running statistics as after training
        if hasattr(module, "running_var"):
            module.running_mean[...] = rng.normal(size=module.running_mean.shape)
            module.running_var[...] = rng.uniform(0.5, 2, module.running_var.shape)
    model.eval()
    return Predictor(LoadedModel(model, info, fitted, SimpleNamespace(), 7))


@pytest.mark.parametrize(
    ("model", "info", "fitted"),
    [
        (models.MLP([6, 8, 3], activation="gelu", dropout=0.1, rng=0), DataInfo("classes", (2, 3), 3), PLAIN),
        (models.CNN((8, 8, 1), 4, rng=0), DataInfo("classes", (8, 8, 1), 4), IMAGES),
        (models.CNN((9, 6, 3), 1, pool=(2, 1), rng=0), DataInfo("values", (9, 6, 3), 1), PLAIN),
        (models.ResNet18(4, channels=1, widths=(4, 6, 8, 8), rng=0), DataInfo("classes", (16, 16, 1), 4), IMAGES),
        (models.ResNet18(2, widths=(4, 4, 4, 4), sync=True, rng=0), DataInfo("classes", (8, 8, 3), 2), PLAIN),
        (models.GPT(20, context=12, layers=2, width=16, heads=4, rng=0), DataInfo("tokens", (12,), 20), TEXT),
        (
            models.GPT(
                20, context=12, layers=2, width=16, heads=4, key_heads=2, activation="gelu_tanh", positions="rotary",
                norm="rms", tied=False, rng=0,
            ),
            DataInfo("tokens", (9,), 20),
            TEXT,
        ),
        (models.LSTMLanguageModel(20, width=8, tied=True, rng=0), DataInfo("tokens", (12,), 20), TEXT),
        (models.PINN([2, 8, 8, 1], bounds=[(0, 1), (0, 2)], rng=0), DataInfo("points", (2,), 1), {"kind": "heat_equation"}),
        (models.PINN([2, 8, 3], activation="silu", rng=0), DataInfo("values", (2,), 3), PLAIN),
    ],
    ids=["mlp", "cnn", "cnn values", "resnet", "resnet sync", "gpt", "gpt rotary", "lstm", "pinn", "pinn values"],
)  # fmt: skip
def test_every_shipped_model(model, info, fitted) -> None:
    exported = export_model(predictor(model, info, fitted))
    assert exported.opset == OPSET
    assert exported.error <= TOLERANCE


def test_every_model_of_the_package_is_among_them() -> None:
    shipped = {each for each in vars(models).values() if isinstance(each, type) and issubclass(each, nn.Module)}
    assert shipped <= set(converters._converters)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.RNN(3, 4, nonlinearity="relu", rng=0), (2, 5, 3)),
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True, rng=0), (2, 5, 3)),
        (nn.GRU(3, 4, num_layers=2, bias=False, rng=0), (2, 5, 3)),
        (nn.GRU(3, 4, bidirectional=True, rng=0), (2, 5, 3)),
        (nn.Conv1d(4, 6, 3, padding=1, stride=2, groups=2, rng=0), (2, 9, 4)),
        (nn.Conv2d(4, 6, (3, 2), padding=(1, 0), dilation=2, groups=2, activation="tanh", rng=0), (2, 9, 8, 4)),
        (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), (2, 8, 7, 3)),
        (nn.AvgPool2d(3, 2, padding=1), (2, 8, 7, 3)),
        (nn.AvgPool2d(2, count_include_pad=False), (2, 8, 6, 3)),
        (nn.Residual(nn.Linear(3, 3, rng=0)), (2, 3)),
        (
            nn.Sequential(nn.LayerNorm(4), nn.LeakyReLU(0.2), nn.ELU(0.5), nn.Softplus(), nn.SiLU(), nn.Sigmoid()),
            (3, 4),
        ),
        (nn.Sequential(nn.GELU(), nn.GELU("tanh"), nn.Tanh(), nn.LogSoftmax(), nn.Softmax(0)), (3, 4)),
        (nn.TransformerBlock(8, 2, norm_first=False, rng=0), (2, 5, 8)),
        (nn.Linear(3, 2, activation="leaky_relu", rng=0), (4, 3)),
        (nn.Linear(3, 2, activation="elu", bias=False, rng=0), (4, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "x".join(map(str, value)),
)
def test_layers(layer, shape) -> None:
    layer.eval()
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with no_grad():
        expected = layer(x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    expected = expected if isinstance(expected, np.ndarray) else expected.numpy()
    graph = GraphBuilder()
    graph.output(
        "y", convert(layer, graph, graph.input("x", np.float32, list(shape))), np.float32, list(expected.shape)
    )
    session = runtime.InferenceSession(graph.model({}).SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"x": x})[0], expected, atol=TOLERANCE)


class Halved(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 0.5


def test_a_layer_without_a_converter_is_named_and_one_can_be_registered(monkeypatch) -> None:
    monkeypatch.setattr(converters, "_converters", dict(converters._converters))
    model = nn.Sequential(nn.ReLU(), Halved(3, 2, rng=0))
    info = DataInfo("values", (3,), 2)
    with pytest.raises(ExportError, match=r"Halved.*has no ONNX converter\. Register one with"):
        export_model(predictor(model, info, PLAIN))

    @register_converter(Halved)
    def halved(layer, graph, x):
        return graph.op("Mul", layers.linear(layer, graph, x), graph.number(0.5))

    assert export_model(predictor(model, info, PLAIN)).error <= TOLERANCE

    @register_converter(Halved)
    def wrong(layer, graph, x):
        return layers.linear(layer, graph, x)

    with pytest.raises(ExportError, match=r"onnxruntime's outputs differ from the model's by .*Nothing was written"):
        export_model(predictor(model, info, PLAIN))


def test_what_has_no_onnx_form_is_an_error(monkeypatch) -> None:
    graph = GraphBuilder()
    with pytest.raises(ExportError, match="'leaky_relu' has no ONNX form"):
        convert(nn.Activation(nn.activations.leaky_relu(0.3)), graph, "x")
    with pytest.raises(ExportError, match="without running statistics"):
        convert(nn.BatchNorm2d(3, track_running_stats=False), graph, "x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"pip install allgrad\[onnx\]"):
        export_model(predictor(models.PINN([1, 2, 1], rng=0), DataInfo("values", (1,), 1), PLAIN))


TABLE = """size;grade;kind;day;code;{target}
{rows}"""


def table_run(place, task: str, missing: str):
    rng = np.random.default_rng(3)
    rows = []
    for number in range(80):
        gap = missing != "error" and number % 9 == 0
        size = 50 + 9 * rng.normal()
        fields = [
            "" if gap else f"{size:.2f}",
            ["low", "middle", "high"][int(rng.integers(3))],
            "" if gap else ["ä", "b", "c"][int(rng.integers(3))],
            f"{1 + int(rng.integers(28)):02d}.{1 + int(rng.integers(12)):02d}.2023",
            str(number),
            f"{np.exp(size / 20):.3f}" if task == "values" else ("groß" if size > 50 else "klein"),
        ]
        rows.append(";".join(fields))
    (place / "t.csv").write_text(TABLE.format(target="y", rows="\n".join(rows)))
    (place / "run.yaml").write_text(
        f"""
model: {{name: mlp, hidden: [6]}}
data:
  name: csv
  path: t.csv
  target: y
  task: {task}
  numeric: [size]
  categorical: [kind]
  ordinal: {{grade: [low, middle, high]}}
  dates: [day]
  missing: {missing}
  {"transform: log1p" if task == "values" else "unseen: ignore"}
loss: {"mse" if task == "values" else "cross_entropy"}
batch: {{size: 16, virtual_workers: 2}}
optimizer: {{name: adam, lr: 0.02, ema: 0.8}}
train: {{steps: 10}}
logging: {{progress: none}}
"""
    )
    train(place / "run.yaml", place / "run")
    return place / "run"


@pytest.mark.parametrize(("task", "missing"), [("values", "error"), ("values", "category"), ("classes", "mean")])
def test_the_preprocessing_of_a_table_is_in_the_file(task, missing, tmp_path, capsys) -> None:
    run = table_run(tmp_path, task, missing)
    assert main(["export", str(run), "--onnx", str(tmp_path / "m.onnx")]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"{tmp_path / 'm.onnx'}: opset 17, inputs size, kind, grade, day; outputs prediction")
    assert "onnxruntime agrees with the model to" in said
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    model = allgrad.load(run)
    days = ["24.12.2023", "01.07.1969", "29.02.2024"]
    seconds = (np.array(["2023-12-24", "1969-07-01", "2024-02-29"], "M8[s]").astype(float))[:, None]
    rows = {"size": [44.0, 51.5, 60.0], "grade": ["low", "high", "middle"], "kind": ["c", "ä", "b"], "day": days}
    if missing != "error":
        rows["size"][1], rows["kind"][1] = np.nan, ""
    feed = {
        "size": np.array(rows["size"])[:, None],
        "grade": np.array(rows["grade"], object)[:, None],
        "kind": np.array(rows["kind"], object)[:, None],
        "day": seconds,
    }
    found = session.run(None, feed)
    if task == "values":
        assert np.allclose(found[0], model.predict(rows), rtol=TOLERANCE)
    else:
        assert np.allclose(found[1], model.predict_proba(rows), atol=TOLERANCE)
        assert found[0].tolist() == model.predict(rows).tolist()
        rows["kind"][0] = feed["kind"][0, 0] = "unseen"
        assert np.allclose(session.run(None, feed)[1], model.predict_proba(rows), atol=TOLERANCE)
    if missing == "error":
        feed["size"] = np.full((3, 1), np.nan)
        assert np.isnan(session.run(None, feed)[0]).all()
        feed["kind"][0, 0] = "unseen"
        with pytest.raises(Exception, match="Unknown Category"):
            session.run(None, feed)


def test_the_check_is_on_rows_like_those_of_the_training() -> None:
    column = {"name": "d", "type": "date", "format": "%d.%m.%Y %H:%M", "clock": True, "mean": 1.7e9, "scale": 1e7}
    feed, texts = export._random_column(np.random.default_rng(0), column, 5)
    assert feed.shape == (5, 1)
    assert len(texts) == 5
    assert (feed % 60 == 0).all()
