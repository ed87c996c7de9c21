"""Array files, memory-mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.arrays import arrays_source
from allgrad.data.npy import open_arrays

if TYPE_CHECKING:
    from pathlib import Path

X = np.arange(60.0, dtype=np.float32).reshape(20, 3)
Y = np.arange(20) % 4


def source(train: Path, valid: Path | None = None, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "task": "classes",
        "inputs": "inputs",
        "targets": "targets",
        "valid_fraction": 0.25,
        "split_seed": 0,
    }
    return arrays_source(str(train), None if valid is None else str(valid), **{**defaults, **options})


def test_archives_are_mapped_not_read(tmp_path: Path) -> None:
    arrays = {
        "f": X,
        "order": np.asfortranarray(X),
        "big": X.astype(">f8"),
        "scalar": np.array(3),
        "empty": np.zeros((0, 2)),
        "one": np.arange(5),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    for name, mapped in (("a.npz", True), ("b.npz", False)):
        found = open_arrays(tmp_path / name)
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype
            assert found[key].shape == array.shape
        assert isinstance(found["f"], np.memmap) is mapped
        assert isinstance(found["order"], np.memmap) is mapped


def test_a_directory_of_arrays_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", X)
    found = open_arrays(tmp_path)
    assert isinstance(found["inputs"], np.memmap)
    np.testing.assert_array_equal(found["inputs"], X)


def test_batches_are_plain_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=X, targets=Y)
    batch = source(tmp_path / "a.npz").train.batch(np.array([0, 1]))
    assert [type(array) for array in batch.values()] == [np.ndarray] * 2
    batch["inputs"][:] = 0  # a copy: the file is not touched


def test_a_split_of_one_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=X, targets=Y)
    data = source(tmp_path / "a.npz")
    rows = [subset.batch(np.arange(len(subset)))["inputs"] for subset in (data.train, data.valid)]
    assert [len(subset) for subset in rows] == [15, 5]
    assert sorted(np.concatenate(rows)[:, 0].tolist()) == X[:, 0].tolist()
    assert (data.info.kind, data.info.input_shape, data.info.outputs) == ("classes", (3,), 4)


def test_two_files_and_values(tmp_path: Path) -> None:
    for name, rows in (("a", slice(12)), ("b", slice(12, 20))):
        np.savez(tmp_path / f"{name}.npz", x=X[rows], y=X[rows, :2])
    data = source(tmp_path / "a.npz", tmp_path / "b.npz", task="values", inputs="x", targets="y")
    assert (len(data.train), len(data.valid), data.info.outputs) == (12, 8, 2)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"inputs": X}, "no array named 'targets'. The arrays are: 'inputs'"),
        ({"inputs": X, "targets": Y[:5]}, r"as many inputs as targets.*\(20, 3\) and \(5,\)"),
        ({"inputs": X, "targets": Y - 1}, "integers from 0"),
        ({"inputs": X, "targets": Y.astype(float)}, "integers from 0"),
        ({"inputs": X[:0], "targets": Y[:0]}, "at least one"),
        ({"inputs": X[:1], "targets": Y[:1]}, "leaves"),
        ({"inputs": X, "targets": Y.astype(object)}, "expected an array of numbers. Got dtype object"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], match: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=match):
        source(tmp_path / "a.npz")


def test_validation_must_have_the_same_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=X, targets=Y)
    np.savez(tmp_path / "b.npz", inputs=X[:, :2], targets=Y)
    with pytest.raises(DataError, match=r"b.npz: one sample's inputs have shape \(2,\)"):
        source(tmp_path / "a.npz", tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.txt"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"not readable as a \.npz file|expected a \.npz file"):
        open_arrays(tmp_path / name)


def test_a_cut_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=X)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"not readable as a \.npz file"):
        open_arrays(tmp_path / "a.npz")
