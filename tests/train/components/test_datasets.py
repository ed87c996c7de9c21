"""The data sets that a configuration can name."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.train.config import ConfigError, registry, resolve

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("stand_ins")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One small file for each kind of data."""
    (tmp_path / "text.txt").write_text("to be or not to be " * 20)
    np.save(tmp_path / "tokens.npy", np.arange(200) % 17)
    rows = "".join(f"{x},{x * x},{'ab'[x % 2]}\n" for x in range(40))
    (tmp_path / "table.csv").write_text("x,y,kind\n" + rows)
    np.savez(tmp_path / "arrays.npz", inputs=np.ones((40, 3)), targets=np.arange(40) % 5)
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(np.ones((30, 4, 4)))))
    (tmp_path / "labels").write_bytes(idx(np.arange(30) % 3))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "kind", "shape", "outputs"),
    [
        ({"name": "text", "path": "text.txt", "context": 16, "valid": 50}, "tokens", (16,), 7),
        ({"name": "text", "path": "text.txt", "unit": "bytes", "context": 8, "valid": 50}, "tokens", (8,), 256),
        ({"name": "tokens", "path": "tokens.npy", "vocabulary_size": 17, "context": 8, "valid": 50}, "tokens", (8,), 17),
        (
            {"name": "csv", "path": "table.csv", "target": "y", "numeric": ["x"], "ordinal": {"kind": ["a", "b"]}},
            "values",
            (2,),
            1,
        ),
        ({"name": "csv", "path": "table.csv", "target": "kind", "task": "classes", "numeric": ["x"]}, "classes", (1,), 2),
        ({"name": "arrays", "train": "arrays.npz"}, "classes", (3,), 5),
        (
            {
                "name": "idx",
                "train_images": "images.gz",
                "train_labels": "labels",
                "valid_images": "images.gz",
                "valid_labels": "labels",
                "flip": True,
            },
            "classes",
            (4, 4, 1),
            3,
        ),
        ({"name": "heat_equation", "interior": 20, "boundary": 4, "initial": 4, "grid": 3}, "points", (2,), 1),
    ],
)  # fmt: skip
def test_data_is_built_from_its_section(
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    kind: str,
    shape: tuple[int, ...],
    outputs: int,
) -> None:
    monkeypatch.chdir(files)
    path = files / "run.yaml"
    path.write_text(
        f"model: {{name: gpt}}\ndata: {options}\nloss: {{name: mse}}\nbatch: {{size: 8}}\n"
        "optimizer: {name: sgd, lr: 0.1}\ntrain: {steps: 1}\n"
    )
    source = registry.datasets.build(resolve(path).data, 0)
    assert (source.info.kind, source.info.input_shape, source.info.outputs) == (kind, shape, outputs)
    for part in (source.train, source.valid):
        batch = part.batch(np.arange(2))
        assert batch["inputs"].shape == (2, *shape)
        assert len(batch["targets"]) == 2


def test_bad_options_name_their_place(files: Path) -> None:
    path = files / "run.yaml"
    path.write_text("data: {name: csv, path: table.csv, target: y, ordinal: {kind: a}, numerik: [x]}\n")
    with pytest.raises(ConfigError) as caught:
        resolve(path)
    assert "run.yaml:1: data.ordinal.kind: expected a list, got 'a'." in str(caught.value)
    assert "data.numerik: unknown key. Did you mean 'numeric'?" in str(caught.value)
