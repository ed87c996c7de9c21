"""Arrays of another dtype than float32 were a traceback at step 0; empty class labels became a class; blank lines were errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.arrays import arrays_source
from allgrad.data.csv_files import parse_csv
from allgrad.data.tables import Columns, table_source

if TYPE_CHECKING:
    from pathlib import Path

X = np.arange(60).reshape(20, 3)
Y = np.arange(20) % 4


def source(tmp_path: Path, x: Any, y: Any, task: Any) -> Any:
    np.savez(tmp_path / "a.npz", inputs=x, targets=y)
    options: dict[str, Any] = {"inputs": "inputs", "targets": "targets", "valid_fraction": 0.2, "split_seed": 0}
    return arrays_source(str(tmp_path / "a.npz"), None, task=task, **options)


def everything(data: Any) -> Any:
    subsets = [subset.batch(np.arange(len(subset))) for subset in (data.train, data.valid)]
    return {key: np.concatenate([subset[key] for subset in subsets]) for key in subsets[0]}


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "f2", "g", "u1", "i1", ">i2", "i4", "u4", "i8", "u8", "?"])
def test_inputs_of_any_real_dtype_become_float32(tmp_path: Path, dtype: str, caplog: pytest.LogCaptureFixture) -> None:
    x = X.astype(dtype)
    with caplog.at_level(logging.INFO, "allgrad"):
        rows = everything(source(tmp_path, x, Y, "classes"))
    assert rows["inputs"].dtype == np.dtype("f4")
    assert rows["inputs"].dtype.isnative
    np.testing.assert_array_equal(np.sort(rows["inputs"], axis=0), np.sort(x, axis=0).astype("f4"))  # not scaled
    assert ("is used as float32" in caplog.text) == (dtype != "f4")


@pytest.mark.parametrize("dtype", ["u1", "i8", ">i4", "u8", "i2"])
def test_class_targets_of_any_integer_dtype_become_int64(tmp_path: Path, dtype: str) -> None:
    data = source(tmp_path, X, Y.astype(dtype), "classes")
    rows = everything(data)
    assert (rows["targets"].dtype, data.info.outputs) == (np.int64, 4)
    assert np.bincount(rows["targets"]).tolist() == [5] * 4


def test_two_classes_may_be_bools(tmp_path: Path) -> None:
    data = source(tmp_path, X, Y > 1, "classes")
    assert (data.info.outputs, np.bincount(everything(data)["targets"]).tolist()) == (2, [10, 10])


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i4", "?", "u1"])
@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 2, 2)])
def test_values_become_float32_with_two_axes_at_least(tmp_path: Path, dtype: str, shape: Any) -> None:
    y = np.resize(Y, shape).astype(dtype)
    data = source(tmp_path, X[:, 0], y, "values")
    rows = everything(data)
    assert (rows["targets"].dtype, rows["inputs"].shape) == (np.float32, (20, 1))
    assert rows["targets"].shape[1:] == (shape[1:] or (1,))
    assert data.info.outputs == np.prod(shape[1:])
    assert data.info.input_shape == (1,)


@pytest.mark.parametrize(
    ("x", "y", "task", "match"),
    [
        (X.astype("c8"), Y, "classes", r"'inputs': expected real numbers .* Got dtype complex64"),
        (X, Y.astype("c16"), "values", r"'targets': expected real numbers .* Got dtype complex128"),
        (X, Y.astype("f8"), "classes", "vector of integers from 0. Got dtype float64"),
        (X, Y[:, None], "classes", r"vector of integers from 0. Got dtype int64, shape \(20, 1\)"),
        (X.astype("U3"), Y, "classes", "'inputs': expected an array of numbers. Got dtype <U3"),
        (X.astype("S3"), Y, "classes", "expected an array of numbers"),
        (X, Y.astype("M8[s]"), "classes", "'targets': expected an array of numbers"),
        (np.zeros(20, [("a", "f4")]), Y, "classes", "expected an array of numbers"),
        (X[:, :0], Y, "classes", r"the samples are empty: the array has shape \(20, 0\)"),
    ],
)
def test_other_dtypes_are_refused_at_once(tmp_path: Path, x: Any, y: Any, task: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        source(tmp_path, x, y, task)


def test_a_value_that_float32_cannot_hold_is_named(tmp_path: Path) -> None:
    x = X.astype(float)
    x[13, 1] = 1e300
    with pytest.raises(DataError, match="sample 13 has inputs that are too large for float32"):
        everything(source(tmp_path, x, Y, "classes"))
    x[13, 1] = np.inf  # is infinite already, and no conversion's fault
    everything(source(tmp_path, x, Y, "classes"))


TABLE = "\na,b\n1,x\n\n2,y\n   \n3,x\n,\n4,y\n5,x\n\n\n"


def test_blank_lines_are_skipped_and_lines_counted_with_them(tmp_path: Path) -> None:
    table = parse_csv(TABLE.encode(), "t.csv")
    assert table.columns == {"a": ["1", "2", "3", "4", "5"], "b": ["x", "y", "x", "y", "x"]}
    assert table.lines == [3, 5, 7, 9, 10]
    assert parse_csv(b'a\n"1\n2"\n3', "t.csv").lines == [2, 4]
    (tmp_path / "t.csv").write_text(TABLE.replace("4,y", "four,y"))
    with pytest.raises(DataError, match=r"line 9, column 'a': expected a finite number. Got 'four'"):
        table_source(str(tmp_path / "t.csv"), Columns("b", "classes", ("a",)), valid_fraction=0.2, split_seed=0)


@pytest.mark.parametrize("label", ["", " "])
def test_an_empty_class_label_is_an_error(tmp_path: Path, label: str) -> None:
    (tmp_path / "t.csv").write_text(TABLE.replace("4,y", f"4,{label}"))
    with pytest.raises(DataError, match=r"line 9, column 'b': the class label is empty \(1 of 5 rows\)"):
        table_source(str(tmp_path / "t.csv"), Columns("b", "classes", ("a",)), valid_fraction=0.2, split_seed=0)
