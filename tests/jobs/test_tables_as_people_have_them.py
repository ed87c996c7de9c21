"""A table as it is in somebody's directory becomes a run, and its predictions are those that one computes by hand.

The files: German (`;`, decimal comma, Windows-1252) with dates, text classes and gaps; 64 columns of numbers; Parquet.
"""

from __future__ import annotations

import csv
import importlib
import io
import json

import numpy as np
import pytest
from runs import train

import allgrad
from allgrad.cli.main import main
from allgrad.train.run.build import load_trainer

REST = """
batch: {size: 20, virtual_workers: 2}
optimizer: {name: adam, lr: 0.02}
train: {steps: %d, metrics: %s}
logging: {progress: none}
"""


def prepare(place, data: str, *, loss: str = "mse", steps: int = 25, metrics: str = "[rmse]"):
    (place / "run.yaml").write_text(
        f"model: {{name: mlp, hidden: [5], activation: tanh}}\n{data}\nloss: {loss}\n" + REST % (steps, metrics)
    )
    return train(place / "run.yaml", place / "run")


def outputs_by_hand(run, inputs: np.ndarray) -> np.ndarray:
    """What the stored weights make of inputs, in float64."""
    from safetensors.numpy import load_file

    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    w = {name: array.astype(np.float64) for name, array in load_file(newest / "model.safetensors").items()}
    hidden = np.tanh(inputs @ w["layers.0.weight"].T + w["layers.0.bias"])
    return hidden @ w["layers.2.weight"].T + w["layers.2.bias"]


def german_rows(count: int) -> list[list[str]]:
    rng = np.random.default_rng(5)
    rows = []
    for number in range(count):
        day = np.datetime64("2023-01-01") + int(rng.integers(700))
        size = rng.normal()
        rows.append(
            [
                f"{size:.3f}".replace(".", ","),
                "" if number % 7 == 0 else f"{rng.normal() * 1000:.1f}".replace(".", ","),
                day.item().strftime("%d.%m.%Y"),
                ["grün", "weiß", "rot"][int(rng.integers(3))],
                "groß" if size > 0 else "klein",
            ]
        )
    return rows


def test_a_german_table_with_dates_gaps_and_text_classes(tmp_path, capsys) -> None:
    rows = german_rows(120)
    lines = [";".join(row) for row in rows]
    content = "\r\n".join(["Größe;Gewicht;Verkauft am;Farbe;Klasse", *lines[:50], "", *lines[50:], "", ""])
    (tmp_path / "daten.csv").write_bytes(content.encode("cp1252"))
    summary = prepare(
        tmp_path,
        "data: {name: csv, path: daten.csv, target: Klasse, task: classes, numeric: auto, categorical: [Farbe], "
        "dates: [Verkauft am], missing: mean, stratify: true, unseen: ignore}",
        loss="{name: cross_entropy, class_weights: balanced}",
        metrics="[accuracy, f1, auc, confusion]",
    )
    assert np.sum(summary["eval"]["confusion"]) == 12
    (tmp_path / "daten.csv").unlink()
    new = german_rows(150)[-30:]
    new[0][3] = "blau"
    (tmp_path / "neu.csv").write_bytes(
        "\n".join(
            ["Farbe;Größe;Notiz;Verkauft am;Gewicht", *(";".join([r[3], r[0], "x", r[2], r[1]]) for r in new)]
        ).encode("cp1252")
    )
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "neu.csv"), "-o", str(tmp_path / "aus.csv")]) == 0
    said = capsys.readouterr().err
    assert f"{tmp_path / 'neu.csv'} is read as cp1252, with the separator ';' and the decimal mark ','." in said
    assert "the model does not use these columns: 'Notiz'." in said
    found = list(csv.reader(io.StringIO((tmp_path / "aus.csv").read_text()), delimiter=";"))
    assert found[0] == ["prediction", "probability=groß", "probability=klein"]

    state = json.loads((sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1] / "state.json").read_text())
    size, weight, colour, day = (state["data"]["fitted"]["columns"][n] for n in range(4))
    assert [c["name"] for c in (size, weight, colour, day)] == ["Größe", "Gewicht", "Farbe", "Verkauft am"]

    def number(text: str, column: dict) -> float:
        value = float(text.replace(",", ".")) if text else column["mean"]
        return (value - column["mean"]) / column["scale"]

    inputs = []
    for row in new:
        dd, mm, yyyy = row[2].split(".")
        seconds = (np.datetime64(f"{yyyy}-{mm}-{dd}") - np.datetime64("1970-01-01")).astype(float) * 86400
        year, week = (2 * np.pi * seconds / 86400 / days for days in (365.2425, 7))
        inputs.append(
            [number(row[0], size), number(row[1], weight)]
            + [float(row[3] == name) for name in ("grün", "rot", "weiß")]
            + [(seconds - day["mean"]) / day["scale"], np.sin(year), np.cos(year), np.sin(week), np.cos(week)]
        )
    logits = outputs_by_hand(tmp_path / "run", np.array(inputs))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares = np.array([[float(text.replace(",", ".")) for text in row[1:]] for row in found[1:]])
    assert np.allclose(shares, expected, atol=1e-5)
    assert [row[0] for row in found[1:]] == ["groß" if first > second else "klein" for first, second in expected]


def test_64_columns_of_numbers_in_units_of_the_target(tmp_path) -> None:
    rng = np.random.default_rng(6)
    table = rng.normal(size=(100, 64)) * np.logspace(-3, 3, 64)
    table[:, 7] = 5.0  # constant
    table[:, 8] = 1e9 + rng.normal(size=100) * 1e-3  # constant but for rounding noise
    target = 1000 + 50 * rng.normal(size=100)
    lines = [",".join([*map(repr, row.tolist()), repr(y)]) for row, y in zip(table, target.tolist(), strict=True)]
    (tmp_path / "t.csv").write_text("\n".join([",".join([*(f"c{n}" for n in range(64)), "y"]), *lines]))
    summary = prepare(tmp_path, "data: {name: csv, path: t.csv, target: y, numeric: auto}", metrics="[rmse, mae, r2]")
    model = allgrad.load(tmp_path / "run")
    means, scales = (np.array([column[key] for column in model.fitted["columns"]]) for key in ("mean", "scale"))
    assert scales[[7, 8]].tolist() == [1, 1]
    outputs = outputs_by_hand(tmp_path / "run", (table - means) / scales)[:, 0]
    expected = outputs * model.fitted["target"]["scale"] + model.fitted["target"]["mean"]
    columns = {f"c{n}": table[:, n] for n in range(64)}
    assert np.allclose(model.predict(columns), expected, rtol=1e-5)
    # The reported errors are those of the held-out rows, in the units of y.
    held_out = load_trainer(tmp_path / "run").source.valid.batch(np.arange(10))["targets"][:, 0]
    true = held_out * model.fitted["target"]["scale"] + model.fitted["target"]["mean"]
    rows = [int(np.abs(target - value).argmin()) for value in true]
    assert summary["eval"]["rmse"] == pytest.approx(np.sqrt(np.mean((expected[rows] - true) ** 2)), rel=1e-4)
    assert summary["eval"]["mae"] == pytest.approx(np.mean(np.abs(expected[rows] - true)), rel=1e-4)


def test_parquet_trains_and_predicts_as_csv(tmp_path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
    parquet = importlib.import_module("pyarrow.parquet")
    rng = np.random.default_rng(7)
    rows = [
        {"a": float(a), "n": int(n), "kind": "xy"[n % 2], "y": float(a) + n}
        for a, n in zip(rng.normal(size=80), rng.integers(9, size=80), strict=True)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    digests = []
    for name in ("t.csv", "t.parquet"):
        (tmp_path / name[2:]).mkdir()
        data = f"data: {{name: csv, path: ../{name}, target: y, numeric: [a, n], categorical: [kind]}}"
        digests.append(prepare(tmp_path / name[2:], data, steps=5)["weights_sha256"])
    assert digests[0] == digests[1]
    run = tmp_path / "csv" / "run"
    for rows_file, output in (("t.csv", "one.csv"), ("t.parquet", "two.parquet")):
        assert main(["predict", str(run), str(tmp_path / rows_file), "-o", str(tmp_path / output)]) == 0
    one = [float(line) for line in (tmp_path / "one.csv").read_text().splitlines()[1:]]
    assert np.allclose(parquet.read_table(tmp_path / "two.parquet")["prediction"].to_pylist(), one, rtol=1e-8)


def test_folds_are_a_sweep(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *(f"{n},{n % 3}" for n in range(60))]))
    data = "data: {name: csv, path: t.csv, target: y, task: classes, numeric: [x], stratify: true, folds: 3, fold: %d}"
    held_out = []
    for fold in range(3):
        (tmp_path / str(fold)).mkdir()
        prepare(
            tmp_path / str(fold),
            (data % fold).replace("t.csv", "../t.csv"),
            loss="cross_entropy",
            steps=2,
            metrics="[accuracy]",
        )
        source = load_trainer(tmp_path / str(fold) / "run").source
        assert np.bincount(source.valid.arrays["targets"]).tolist() in ([7, 7, 6], [7, 6, 7], [6, 7, 7])
        scale = 60 / 20
        held_out.append(len(source.valid) * scale)
    assert held_out == [60, 60, 60]
