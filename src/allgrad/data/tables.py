"""Tables with typed columns as data; `allgrad.data.preprocess` says what becomes of the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.data.column_values import codes
from allgrad.data.datasets import ArrayDataset, DataInfo, DataSource, check_fitted
from allgrad.data.digest import content_digest
from allgrad.data.errors import DataError
from allgrad.data.fit import Columns, drop_missing, fit_columns, fit_target, resolve_columns
from allgrad.data.preprocess import encode_inputs, encode_targets, feature_names
from allgrad.data.sources import data_path, read_bytes
from allgrad.data.split import split_rows
from allgrad.data.table_files import parse_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from allgrad.data.csv_files import Table
    from allgrad.data.csv_layout import Layout

__all__ = ["Columns", "table_source"]


def table_source(
    path: str,
    columns: Columns,
    *,
    valid_fraction: float,
    split_seed: int,
    stratify: bool = False,
    fold: tuple[int, int] | None = None,
    layout: Layout | None = None,
    fitted: Mapping[str, Any] | None = None,
) -> DataSource:
    """Training and held-out rows of a CSV file with a header (gzip or not), a Parquet or an Arrow file.

    Inputs are (rows, features) float32; targets are (rows, 1) float32 values or (rows,) int64 class numbers.
    `info.extra` has "features" (names of the inputs) and, for values, "target_mean", "target_scale" and "target_transform";
    for classes, "classes" and "class_counts" (of the training rows).

    Args:
        stratify: hold out the same fraction of every class.
        fold: (number, of how many): hold out this fold of a k-fold cross-validation instead of `valid_fraction`.
        layout: how the file is written; by default, all of it is found from the content.
        fitted: stored preprocessing; nothing is fitted, and a category or class that it does not know is an error. If it has
            no target, only that is fitted.

    Raises:
        DataError: naming file, line and column where something is not as declared.
    """
    content = read_bytes(data_path(path))
    table = parse_table(content, path, layout)
    if fitted is None:
        columns = resolve_columns(table, columns)
    else:
        columns = _checked_columns(fitted, columns, path)
    if columns.missing == "drop":
        table = drop_missing(table, columns)
    groups = _classes(table, columns) if stratify else None
    train, valid = split_rows(len(table), valid_fraction, split_seed, groups=groups, fold=fold, what=path)
    if fitted is None:
        fitted = fit_columns(table, columns, train)
    elif "target" not in fitted:
        fitted = {**fitted, "target": fit_target(table, columns, train)}
    arrays: dict[str, NDArray[Any]] = {
        "inputs": encode_inputs(table, fitted),
        "targets": encode_targets(table, fitted),
    }
    return DataSource(
        _rows(arrays, train), _rows(arrays, valid), _info(columns, fitted), fitted, content_digest(content)
    )


def _classes(table: Table, columns: Columns) -> NDArray[np.int64]:
    if columns.task != "classes":
        raise DataError(f"{table.name}: `stratify` needs `task: classes`. The task is {columns.task!r}.")
    return codes(table, columns.target, sorted(set(table.column(columns.target))))


def _rows(arrays: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> ArrayDataset:
    return ArrayDataset({key: array[rows] for key, array in arrays.items()})


def _info(columns: Columns, fitted: Mapping[str, Any]) -> DataInfo:
    features, target = feature_names(fitted), fitted["target"]
    if columns.task == "classes":
        outputs = len(target["classes"])
        extra = {key: target[key] for key in ("classes", "class_counts") if key in target}
    else:
        outputs, extra = 1, {f"target_{key}": target[key] for key in ("mean", "scale", "transform")}
    return DataInfo(columns.task, (len(features),), outputs, {"features": features, **extra})


def _checked_columns(fitted: Mapping[str, Any], columns: Columns, path: str) -> Columns:
    """The columns of the stored preprocessing, which must be those of the configuration."""
    check_fitted(fitted, {"kind": "table"}, path)
    inputs = fitted["columns"]
    declared = {"name": columns.target, "type": columns.task, "transform": columns.transform}
    target = fitted.get("target", declared)
    names = {
        kind: [column["name"] for column in inputs if column["type"] == kind]
        for kind in ("numeric", "categorical", "date")
    }
    stored = Columns(
        target["name"],
        target["type"],
        names["numeric"],
        names["categorical"],
        {column["name"]: column["order"] for column in inputs if column["type"] == "ordinal"},
        names["date"],
        columns.date_format,
        columns.unseen,
        target.get("transform", "none"),
        fitted["missing"],
    )
    check_fitted(_options(stored), _options(columns, stored), path)
    return stored


def _options(columns: Columns, stored: Columns | None = None) -> dict[str, Any]:
    """The options of a configuration that declare these columns; `numeric: auto` stands for what is stored."""
    numeric = stored.numeric if stored is not None and columns.numeric == "auto" else columns.numeric
    return {
        "target": columns.target,
        "task": columns.task,
        "numeric": list(numeric),
        "categorical": list(columns.categorical),
        "ordinal": {name: list(order) for name, order in (columns.ordinal or {}).items()},
        "dates": list(columns.dates),
        "transform": columns.transform if columns.task == "values" else "none",
        "missing": columns.missing,
    }
