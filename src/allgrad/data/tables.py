"""CSV files with typed columns as data; `allgrad.data.preprocess` says what becomes of the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.data.csv_files import Table, parse_csv
from allgrad.data.datasets import ArrayDataset, DataInfo, DataSource, check_fitted
from allgrad.data.digest import content_digest
from allgrad.data.errors import DataError
from allgrad.data.preprocess import Columns, encode_inputs, encode_targets, feature_names, fit_columns
from allgrad.data.sources import data_path, read_bytes, split_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Columns", "read_table", "table_source"]


def table_source(
    path: str,
    columns: Columns,
    *,
    valid_fraction: float,
    split_seed: int,
    fitted: Mapping[str, Any] | None = None,
) -> DataSource:
    """Training and held-out rows of a CSV file with a header (gzip or not).

    Inputs are (rows, features) float32; targets are (rows, 1) float32 values or (rows,) int64 class numbers.
    `info.extra` has "features" (names of the inputs) and, for values, "target_mean", "target_scale" and "target_transform";
    for classes, "classes".

    Args:
        fitted: stored preprocessing; nothing is fitted, and a category or class that it does not know is an error.

    Raises:
        DataError: naming file, line and column where something is not as declared.
    """
    content = read_bytes(data_path(path))
    table = parse_csv(content, path)
    _check_columns(table, columns)
    train, valid = split_rows(len(table), valid_fraction, split_seed, what=path)
    if fitted is None:
        fitted = fit_columns(table, columns, train)
    else:
        check_fitted(_declared(fitted), _declaration(columns), path)
    arrays: dict[str, NDArray[Any]] = {
        "inputs": encode_inputs(table, fitted),
        "targets": encode_targets(table, fitted),
    }
    return DataSource(
        _rows(arrays, train), _rows(arrays, valid), _info(columns, fitted), fitted, content_digest(content)
    )


def read_table(path: str) -> Table:
    """The columns of a CSV file as texts.

    Raises:
        DataError: when the file is missing, or is not a CSV file with a header and rows.
    """
    return parse_csv(read_bytes(data_path(path)), path)


def _rows(arrays: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> ArrayDataset:
    return ArrayDataset({key: array[rows] for key, array in arrays.items()})


def _info(columns: Columns, fitted: Mapping[str, Any]) -> DataInfo:
    features, target = feature_names(fitted), fitted["target"]
    if columns.task == "classes":
        outputs, extra = len(target["classes"]), {"classes": target["classes"]}
    else:
        outputs, extra = 1, {f"target_{key}": target[key] for key in ("mean", "scale", "transform")}
    return DataInfo(columns.task, (len(features),), outputs, {"features": features, **extra})


def _check_columns(table: Table, columns: Columns) -> None:
    names = columns.names()
    for name in names:
        table.column(name)
        if names.count(name) > 1:
            raise DataError(
                f"{table.name}: column {name!r} is declared more than once (numeric, categorical, ordinal, target)."
            )
    if len(names) == 1:
        raise DataError(f"{table.name}: there are no input columns. List them under numeric, categorical or ordinal.")


def _declaration(columns: Columns) -> dict[str, Any]:
    """What the configuration says of the columns, in the words of its options."""
    return {
        "target": columns.target,
        "task": columns.task,
        "numeric": list(columns.numeric),
        "categorical": list(columns.categorical),
        "ordinal": {name: list(order) for name, order in (columns.ordinal or {}).items()},
        "transform": columns.transform if columns.task == "values" else None,
    }


def _declared(fitted: Mapping[str, Any]) -> dict[str, Any]:
    """The same, from stored preprocessing."""
    check_fitted(fitted, {"kind": "table"}, "table")
    columns, target = fitted["columns"], fitted["target"]
    return {
        "target": target["name"],
        "task": target["type"],
        "numeric": [column["name"] for column in columns if column["type"] == "numeric"],
        "categorical": [column["name"] for column in columns if column["type"] == "categorical"],
        "ordinal": {column["name"]: column["order"] for column in columns if column["type"] == "ordinal"},
        "transform": target.get("transform"),
    }
