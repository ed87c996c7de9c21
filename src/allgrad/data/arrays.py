"""Data from array files (`.npz`, or a directory of `.npy` files).

Inputs may have any real dtype and byte order. Batches have them as float32, rounded and not scaled: the pixels of an 8-bit
image stay in 0..255, so store them scaled if the model needs it. Class targets become int64, target values float32. Inputs and
target values with one axis, (n,), become (n, 1).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.data.datasets import ArrayDataset, DataInfo, DataSource, Subset, check_fitted
from allgrad.data.digest import content_digest
from allgrad.data.errors import DataError
from allgrad.data.labels import class_count
from allgrad.data.npy import open_arrays
from allgrad.data.sources import data_path
from allgrad.data.split import split_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from allgrad.data.datasets import Dataset

__all__ = ["arrays_source"]

_log = logging.getLogger(__name__)


def arrays_source(
    train: str,
    valid: str | None,
    *,
    task: Literal["classes", "values"],
    inputs: str,
    targets: str,
    valid_fraction: float,
    split_seed: int,
    stratify: bool = False,
    fold: tuple[int, int] | None = None,
    fitted: Mapping[str, Any] | None = None,
) -> DataSource:
    """Training and validation data from array files.

    Args:
        train: file or directory (see `open_arrays`).
        valid: the same for validation; without it, `valid_fraction` of the training rows is held out.
        task: whether targets are class numbers (integers) or values.
        inputs, targets: names of the two arrays in the files.
        stratify: hold out the same fraction of every class.
        fold: (number, of how many): hold out this fold of a k-fold cross-validation instead of `valid_fraction`.
        fitted: stored preprocessing: shapes and the number of classes are taken from it.

    Raises:
        DataError: when a file is missing or damaged, an array has a dtype that is not a real number, or shapes do not match.
    """
    rows = _open_pair(train, inputs, targets, task)
    files = {train: rows}
    kept = np.arange(len(rows))
    if valid is None:
        groups = np.asarray(rows.arrays["targets"]) if stratify and task == "classes" else None
        kept, held_out = split_rows(len(rows), valid_fraction, split_seed, groups=groups, fold=fold, what=train)
        halves: tuple[Dataset, Dataset] = (Subset(rows, kept), Subset(rows, held_out))
    else:
        files[valid] = _open_pair(valid, inputs, targets, task)
        halves = (rows, files[valid])
    fitted = {**_describe(files, task), **(fitted or {})}
    for path, dataset in files.items():
        check_fitted(fitted, {"kind": "arrays", "task": task}, path)
        _check_shapes(path, dataset, fitted)
    extra = {}
    if task == "classes":
        if "class_counts" not in fitted:
            labels = np.asarray(rows.arrays["targets"], np.int64)[kept]
            fitted["class_counts"] = np.bincount(labels, minlength=fitted["outputs"]).tolist()
        extra = {"class_counts": fitted["class_counts"]}
    info = DataInfo(task, tuple(fitted["input_shape"]), fitted["outputs"], extra)
    digest = content_digest(*(array for dataset in files.values() for array in dataset.arrays.values()))
    return DataSource(*halves, info, fitted, digest)


def _describe(files: Mapping[str, ArrayDataset], task: str) -> dict[str, Any]:
    """The stored description: shape of the inputs, shape of the targets, number of outputs."""
    first = next(iter(files.values())).arrays
    shape = first["targets"].shape[1:]
    if task == "classes":
        outputs = max(class_count(dataset.arrays["targets"], path) for path, dataset in files.items())
    else:
        outputs = int(np.prod(shape))
    return {
        "kind": "arrays",
        "task": task,
        "input_shape": list(first["inputs"].shape[1:]),
        "target_shape": list(shape),
        "outputs": outputs,
    }


def _check_shapes(path: str, dataset: ArrayDataset, fitted: Mapping[str, Any]) -> None:
    for name, key in (("inputs", "input_shape"), ("targets", "target_shape")):
        shape = dataset.arrays[name].shape[1:]
        if list(shape) != list(fitted[key]):
            raise DataError(
                f"{path}: one sample's {name} have shape {shape}, but the training data have {tuple(fitted[key])}."
            )
    if fitted["task"] == "classes":
        class_count(dataset.arrays["targets"], path, known=fitted["outputs"])


def _open_pair(path: str, inputs: str, targets: str, task: str) -> ArrayDataset:
    arrays = open_arrays(data_path(path), (inputs, targets))
    x, y = arrays[inputs], arrays[targets]
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise DataError(
            f"{path}: expected as many inputs as targets, and at least one. Got the shapes {x.shape} and {y.shape}."
        )
    x = _real(path, inputs, x)
    if task == "classes":
        class_count(y, f"{path}, {targets!r}")
    else:
        y = _real(path, targets, y)
    return ArrayDataset(
        {"inputs": x, "targets": y},
        {"inputs": np.float32, "targets": np.int64 if task == "classes" else np.float32},
        name=path,
    )


def _real(path: str, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array, with at least two axes, if its dtype is one of real numbers."""
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{path}, {name!r}: expected real numbers (float, integer or bool). Got dtype {array.dtype}. Convert it first."
        )
    if array.dtype != np.float32:
        _log.info("%s: %r is used as float32, converted from %s without scaling.", path, name, array.dtype)
    if 0 in array.shape:
        raise DataError(f"{path}, {name!r}: the samples are empty: the array has shape {array.shape}.")
    return array if array.ndim > 1 else array[:, None]
