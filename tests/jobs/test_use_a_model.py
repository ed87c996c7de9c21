"""Using a trained model as its users do: new rows in any form, after the training file is gone, on one rank and on two."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from runs import train

import allgrad
from allgrad.cli.main import main
from allgrad.data import DataError
from allgrad.errors import UsageError

HOUSES = """
model: {name: mlp, hidden: [6]}
data: {name: csv, path: houses.csv, target: price, transform: log, numeric: [area, rooms], categorical: [heating], missing: %s}
loss: mse
batch: {size: 16, virtual_workers: 2}
optimizer: {name: adam, lr: 0.01, ema: 0.9}
train: {steps: 20}
logging: {progress: none}
"""


def house_rows(count: int = 700, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "area": round(float(rng.uniform(40, 200)), 1),
            "rooms": int(rng.integers(1, 8)),
            "heating": ["gas", "oil", "wood"][int(rng.integers(3))],
            "price": round(float(rng.uniform(1e5, 9e5))),
        }
        for _ in range(count)
    ]


def write_csv(path, rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def trained(place, missing: str = "error", rows=None):
    """A run in `place`/run, whose training file was deleted."""
    write_csv(place / "houses.csv", rows or house_rows())
    (place / "run.yaml").write_text(HOUSES % missing)
    train(place / "run.yaml", place / "run")
    (place / "houses.csv").unlink()
    return place / "run"


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("houses"))


def by_hand(run, rows) -> np.ndarray:
    """The predictions in the simplest NumPy, from what the checkpoint's files hold."""
    from safetensors.numpy import load_file

    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    state = json.loads((newest / "state.json").read_text())
    fitted = state["data"]["fitted"]
    arrays = load_file(newest / "training.safetensors")
    weights = {
        name: arrays[f"ema/average/{name}"].astype(np.float64) for name in load_file(newest / "model.safetensors")
    }
    columns = {column["name"]: column for column in fitted["columns"]}
    inputs = np.array(
        [
            [(row[name] - columns[name]["mean"]) / columns[name]["scale"] for name in ("area", "rooms")]
            + [float(row["heating"] == category) for category in ("gas", "oil", "wood")]
            for row in rows
        ]
    )
    first, second = (weights[f"layers.{layer}.weight"] for layer in (0, 2))
    first, second = (w if w.shape[0] == size else w.T for w, size in ((first, 5), (second, 6)))
    hidden = np.maximum(inputs @ first + weights["layers.0.bias"], 0)
    outputs = (hidden @ second + weights["layers.2.bias"])[:, 0]
    return np.exp(outputs * fitted["target"]["scale"] + fitted["target"]["mean"])


def test_predictions_are_what_one_computes_by_hand(houses) -> None:
    rows = house_rows(30, seed=1)
    assert np.allclose(allgrad.load(houses).predict(rows), by_hand(houses, rows), rtol=1e-5)


def test_rows_in_every_form_give_the_same(houses) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is one of the libraries whose frames are compared")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is one of the libraries whose frames are compared")
    model, rows = allgrad.load(houses), house_rows(20, seed=2)
    expected = model.predict(rows)
    columns = {name: [row[name] for row in rows] for name in ("heating", "rooms", "area")}
    forms = [
        columns,
        {name: np.array(values) for name, values in columns.items()},
        pandas.DataFrame(rows)[["price", "heating", "area", "rooms"]],
        pandas.DataFrame(columns).astype({"heating": "category", "rooms": "Int64"}),
        pyarrow.Table.from_pylist(rows),
        [[row["area"], row["rooms"], row["heating"]] for row in rows],
        [{name: str(value) for name, value in row.items()} for row in rows],
    ]
    for form in forms:
        assert model.predict(form).tolist() == expected.tolist()
    assert model.predict(rows[3]).tolist() == [expected[3]]


def test_the_command_ignores_the_order_of_columns_and_further_ones(houses, tmp_path, capsys) -> None:
    rows = house_rows(20, seed=3)
    write_csv(tmp_path / "rows.csv", [{"note": "x", **dict(reversed(row.items()))} for row in rows])
    assert main(["predict", str(houses), str(tmp_path / "rows.csv"), "-o", str(tmp_path / "out.csv")]) == 0
    assert "the model does not use these columns: 'note'" in capsys.readouterr().err
    found = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    expected = allgrad.load(houses).predict(rows)
    assert np.allclose([float(row["prediction"]) for row in found], expected, rtol=1e-8)
    for name in ("out.npy", "out.npz"):
        assert main(["predict", str(houses), str(tmp_path / "rows.csv"), "-o", str(tmp_path / name)]) == 0
        loaded = np.load(tmp_path / name)
        assert (loaded if name == "out.npy" else loaded["prediction"]).tolist() == expected.tolist()


def test_two_ranks_predict_the_bits_of_one(houses, tmp_path, mpi_flavour, clean_environment, run_group) -> None:
    write_csv(tmp_path / "rows.csv", house_rows(600, seed=4))
    for ranks, name in ((1, "one.npy"), (2, "two.npy")):
        command = [sys.executable, "-m", "allgrad", "predict", str(houses), str(tmp_path / "rows.csv")]
        code, _, err = run_group([*command, "-o", str(tmp_path / name), "-n", str(ranks)], env=clean_environment({}))
        assert code == 0, err
    one, two = np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy")
    assert one.tobytes() == two.tobytes()
    assert len(one) == 600


def test_a_missing_column_and_an_unseen_category_are_named(houses) -> None:
    model = allgrad.load(houses)
    with pytest.raises(
        DataError, match=r"needs these columns, which are missing: 'rooms', 'heating'\. There are: 'area'"
    ):
        model.predict({"area": [50.0, 60.0]})
    with pytest.raises(DataError, match=r"row 2, column 'heating': expected one of 'gas', 'oil', 'wood'\. Got 'coal'"):
        model.predict([{"area": 1, "rooms": 1, "heating": heating} for heating in ("gas", "coal")])
    with pytest.raises(UsageError, match="predicts values and not classes"):
        model.predict_proba(house_rows(2))


def with_gaps(rows):
    return [{**row, "area": "" if number % 5 == 0 else row["area"]} for number, row in enumerate(rows)]


def test_rows_with_gaps_are_predicted_by_the_policy_of_the_training(tmp_path) -> None:
    rows = with_gaps(house_rows(60))
    dropped = allgrad.load(trained(tmp_path, "drop", rows)).predict(rows[:10])
    assert np.isnan(dropped).tolist() == [True, False, False, False, False] * 2
    shutil.rmtree(tmp_path / "run")
    model = allgrad.load(trained(tmp_path, "mean", rows))
    mean = model.fitted["columns"][0]["mean"]
    assert np.isclose(model.predict(rows[:1])[0], model.predict([{**rows[0], "area": mean}])[0], rtol=1e-6)
    model = allgrad.load(trained_anew(tmp_path, "error"))
    with pytest.raises(DataError, match=r"row 1, column 'area': the value is missing \(12 of 60 rows"):
        model.predict(rows)


def trained_anew(place, missing):
    shutil.rmtree(place / "run")
    return trained(place, missing)


def test_classes_have_names_and_probabilities(tmp_path, capsys) -> None:
    rng = np.random.default_rng(0)
    rows = [{"x": round(float(x), 3), "kind": "größer" if x > 0 else "kleiner"} for x in rng.normal(size=200)]
    write_csv(tmp_path / "rows.csv", rows)
    (tmp_path / "run.yaml").write_text(
        """
model: {name: mlp, hidden: [4]}
data: {name: csv, path: rows.csv, target: kind, task: classes, numeric: [x]}
loss: cross_entropy
batch: {size: 16, virtual_workers: 2}
optimizer: {name: adam, lr: 0.05}
train: {steps: 60}
logging: {progress: none}
"""
    )
    train(tmp_path / "run.yaml", tmp_path / "run")
    model = allgrad.load(tmp_path / "run")
    assert model.classes == ["größer", "kleiner"]
    assert model.predict({"x": [2.0, -2.0]}).tolist() == ["größer", "kleiner"]
    shares = model.predict_proba({"x": [2.0, -2.0]})
    assert shares.shape == (2, 2)
    assert np.allclose(shares.sum(axis=1), 1)
    (tmp_path / "new.csv").write_text("x\n2\n-2\n")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "prediction,probability=größer,probability=kleiner"
    assert [line.split(",")[0] for line in lines[1:]] == ["größer", "kleiner"]


def test_a_language_model_continues_prompts(tmp_path, capsys) -> None:
    (tmp_path / "text.txt").write_text("abcabcabcabc\n" * 300)
    (tmp_path / "run.yaml").write_text(
        """
model: {name: lstm, width: 16, layers: 1}
data: {name: text, path: text.txt, context: 16, valid: 200}
loss: cross_entropy
batch: {size: 16, virtual_workers: 2}
optimizer: {name: adam, lr: 0.05}
train: {steps: 60}
logging: {progress: none}
"""
    )
    train(tmp_path / "run.yaml", tmp_path / "run")
    model = allgrad.load(tmp_path / "run")
    assert model.predict(["abcab", "a", "bca" * 20]).tolist() == ["c", "b", "b"]
    one_by_one = np.concatenate([model.predict_proba([text]) for text in ("abcab", "a")])
    assert np.allclose(model.predict_proba(["abcab", "a"]), one_by_one, atol=1e-6)  # what pads a text is not seen
    (tmp_path / "prompts.txt").write_text("abcab\nab\n")
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "prompts.txt")]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[-3:]] == ["prediction", "c", "c"]
    with pytest.raises(DataError, match="not in the model's vocabulary: 'z'"):
        model.predict(["z"])


def test_arrays_and_images(tmp_path) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 3, 2)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", inputs=inputs, targets=inputs[:, :, 0])
    (tmp_path / "run.yaml").write_text(
        """
model: {name: mlp, hidden: [4]}
data: {name: arrays, train: rows.npz, task: values}
loss: mse
batch: {size: 16, virtual_workers: 2}
optimizer: {name: adam, lr: 0.05}
train: {steps: 5}
logging: {progress: none}
"""
    )
    train(tmp_path / "run.yaml", tmp_path / "run")
    model = allgrad.load(tmp_path / "run")
    expected = model.model(inputs).numpy()
    assert np.allclose(model.predict(inputs), expected)
    assert model.predict(inputs[0]).shape == (1, 3)
    np.save(tmp_path / "new.npy", inputs[:7])
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "new.npy"), "-o", str(tmp_path / "out.npy")]) == 0
    assert np.load(tmp_path / "out.npy").tolist() == model.predict(inputs[:7]).tolist()
    with pytest.raises(DataError, match=r"expected numbers of shape \(rows, 3, 2\)\. Got float64 of shape \(2, 5\)"):
        model.predict(np.zeros((2, 5)))


def test_importing_allgrad_does_not_import_the_trainer() -> None:
    code = "import sys, allgrad; print('pydantic' in sys.modules, 'allgrad.train' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False False\n"
