"""A run that starts from another one's weights: what it takes over, what may differ, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from runs import resume, train

import allgrad
from allgrad.data import DataError
from allgrad.train.config.errors import ConfigError
from allgrad.train.run.build import Options, new_run
from allgrad.train.run.warm_start import WarmStartError

CONFIG = """
model: {{name: mlp, hidden: [6], {model}}}
data: {{name: csv, path: {path}, target: {target}, numeric: [a, b], task: {task}}}
loss: {loss}
batch: {{size: 16, virtual_workers: 2}}
optimizer: {{name: adam, lr: 0.01{optimizer}}}
train: {{steps: 8}}
logging: {{progress: none}}
"""


def write(place, name: str, **changes) -> str:
    settings = {
        "model": "",
        "path": "one.csv",
        "target": "kind",
        "task": "classes",
        "loss": "cross_entropy",
        "optimizer": "",
    }
    (place / name).write_text(CONFIG.format(**(settings | changes)))
    return str(place / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two tables with columns of different scales, and a run on the first one."""
    place = tmp_path_factory.mktemp("warm")
    rng = np.random.default_rng(0)
    for name, scale, kinds in (("one.csv", 1, "xyz"), ("two.csv", 10, "pq"), ("three.csv", 10, "xyz")):
        rows = [
            f"{scale * a:.3f},{b:.3f},{kinds[n % len(kinds)]},{a:.3f}"
            for n, (a, b) in enumerate(rng.normal(size=(80, 2)))
        ]
        (place / name).write_text("\n".join(["a,b,kind,y", *rows]))
    train(write(place, "first.yaml", optimizer=", ema: 0.5"), place / "first")
    return place


def made(place, name: str, **changes):
    """The trainer of a new run, before its first step."""
    return new_run(write(place, name, **changes), [f"run.dir={place / name[:-5]}"], Options(single=True))[0]


def test_weights_and_preprocessing_are_taken_over(place) -> None:
    trainer = made(place, "same.yaml", model="from: first", path="three.csv")
    origin = allgrad.load(place / "first")  # with the averaged weights
    for name, array in trainer.model.state_dict().items():
        assert array.tobytes() == origin.model.state_dict()[name].tobytes()
    assert trainer.data_record.fitted == origin.fitted  # though the column is ten times larger here
    summary = trainer.run(place / "same")
    assert summary["steps"] == 8
    (place / "first").rename(place / "elsewhere")  # a run that has a checkpoint no longer needs the other one
    try:
        assert allgrad.load(place / "same").step == 8
        assert resume(place / "same", "train.steps=10")["steps"] == 10
    finally:
        (place / "elsewhere").rename(place / "first")


def test_a_new_output_layer_has_new_classes_on_the_old_inputs(place) -> None:
    trainer = made(place, "head.yaml", model="from: first, from_except: [layers.2.*]", path="two.csv")
    origin = allgrad.load(place / "first")
    state, old = trainer.model.state_dict(), origin.model.state_dict()
    assert state["layers.0.weight"].tobytes() == old["layers.0.weight"].tobytes()
    assert state["layers.2.weight"].shape == (2, 6)
    fitted = trainer.data_record.fitted
    assert fitted["columns"] == origin.fitted["columns"]
    assert fitted["target"]["classes"] == ["p", "q"]
    values = made(
        place, "values.yaml", model="from: first, from_except: [layers.2.*]", target="y", task="values", loss="mse"
    )
    assert values.data_record.fitted["target"]["type"] == "values"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "from: first", "path": "two.csv"}, DataError, "expected one of 'x', 'y', 'z'. Got 'p'"),
        (
            {"model": "from: first, from_except: [layers.0.bias]", "path": "two.csv"},
            WarmStartError,
            r"layers\.2\.weight has shape \(3, 6\) there and \(2, 6\) here; layers\.2\.bias has shape \(3,\) there",
        ),
        (
            {"model": "from: first, from_except: [head.*]"},
            WarmStartError,
            r"nothing is called head\.\*\. The weights are layers",
        ),
        ({"model": "from: nowhere"}, Exception, "There is no directory .*nowhere"),
        ({"model": "from_except: [x]"}, ConfigError, "from_except: needs model.from"),
        (
            {"model": "from: first, dropout: 0.1, activation: tanh", "target": "y", "task": "values", "loss": "mse"},
            DataError,
            "the model was trained with target = 'kind', but the configuration says 'y'",
        ),
    ],
    ids=["classes", "shapes", "pattern", "directory", "exceptions of nothing", "target"],
)
def test_what_does_not_fit_is_named(place, changes, error, message) -> None:
    with pytest.raises(error, match=message):
        made(place, "refused.yaml", **changes)
    assert not (place / "refused").exists()


@pytest.mark.parametrize("name", ["arrays", "idx"])
def test_arrays_and_images_keep_their_inputs_too(tmp_path, name) -> None:
    from allgrad.data.arrays import arrays_source
    from allgrad.data.images import Augmentation, image_source

    rng = np.random.default_rng(0)
    if name == "arrays":
        np.savez(tmp_path / "a.npz", inputs=rng.normal(size=(20, 3)), targets=np.arange(20) % 4)
        options = {"task": "classes", "inputs": "inputs", "targets": "targets", "valid_fraction": 0.2, "split_seed": 0}
        source = arrays_source(str(tmp_path / "a.npz"), None, **options, fitted={"kind": "arrays", "input_shape": [3]})
        assert source.info.outputs == 4
    else:
        pair = (rng.integers(0, 256, (20, 4, 4)).astype(np.uint8), np.arange(20) % 4)
        fitted = {"kind": "images", "mean": 0.25, "scale": 0.5}
        source = image_source(pair, pair, augmentation=Augmentation(), seed=0, what="images", fitted=fitted)
        assert source.fitted == {**fitted, "classes": 4, "class_counts": [5, 5, 5, 5]}
