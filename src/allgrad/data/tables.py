"""CSV files with typed columns.

Numeric columns are standardised with the mean and standard deviation of the training rows only, so that nothing of
the held-out rows leaks into training. Categorical columns become one 0/1 column a category (all categories of the
file, sorted); ordinal ones become their rank in the order that is given, standardised as well. A column that is not
named is not used. Inputs are float32 (rows, features); regression targets are float32 (rows, 1), transformed and
standardised; class targets are int64 (rows,).
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.data.datasets import ArrayDataset, DataInfo, DataSource
from allgrad.data.sources import DataError, data_path, read_bytes, split_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Columns", "read_table", "table_source"]


@dataclass(frozen=True)
class Columns:
    """Which columns are used, and how.

    Attributes:
        target: the column to predict.
        task: "values" (a number) or "classes" (each distinct text is a class, sorted).
        numeric: columns of numbers.
        categorical: columns of names without an order.
        ordinal: columns of names with an order: column to names, lowest first.
        transform: applied to a numeric target before it is standardised: "none", "log", "log1p".
    """

    target: str
    task: Literal["values", "classes"] = "values"
    numeric: Sequence[str] = ()
    categorical: Sequence[str] = ()
    ordinal: Mapping[str, Sequence[str]] | None = None
    transform: Literal["none", "log", "log1p"] = "none"

    def names(self) -> list[str]:
        return [*self.numeric, *self.categorical, *(self.ordinal or {}), self.target]


def table_source(path: str, columns: Columns, *, valid_fraction: float, split_seed: int) -> DataSource:
    """Training and held-out rows of a CSV file with a header (gzip or not).

    `info.extra` has "features" (names of the inputs' columns) and, for values, "target_mean" and "target_scale" (of the
    transformed target), for classes "classes".

    Raises:
        DataError: naming file, line and column where something is not as declared.
    """
    table = read_table(path)
    _check(path, table, columns)
    count = len(table[columns.target])
    train, valid = split_rows(count, valid_fraction, split_seed)
    blocks: list[NDArray[np.float64]] = []
    features: list[str] = []
    for name in columns.numeric:
        values = _numbers(path, name, table[name])
        blocks.append(_standardise(values, train)[0][:, None])
        features.append(name)
    for name in columns.categorical:
        kinds, codes = np.unique(np.array(table[name]), return_inverse=True)
        blocks.append(np.eye(len(kinds))[codes])
        features += [f"{name}={kind}" for kind in kinds]
    for name, order in (columns.ordinal or {}).items():
        blocks.append(_standardise(_ranks(path, name, table[name], order), train)[0][:, None])
        features.append(name)
    inputs = np.concatenate(blocks, axis=1).astype(np.float32)
    targets, outputs, extra = _targets(path, columns, table[columns.target], train)
    arrays = {"inputs": inputs, "targets": targets}
    info = DataInfo(columns.task, (inputs.shape[1],), outputs, {"features": features, **extra})
    return DataSource(
        ArrayDataset({key: array[train] for key, array in arrays.items()}),
        ArrayDataset({key: array[valid] for key, array in arrays.items()}),
        info,
    )


def read_table(path: str) -> dict[str, list[str]]:
    """The columns of a CSV file as texts, by the names in its header.

    Raises:
        DataError: when the file is missing, not UTF-8, has no rows, repeats a name or has a row of another length.
    """
    content = read_bytes(data_path(path))
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}). Convert it.") from error
    except csv.Error as error:
        raise DataError(f"{path}: not readable as CSV: {error}.") from error
    if len(rows) < 2:
        raise DataError(f"{path}: expected a header and at least one row. Got {len(rows)} lines.")
    header = rows[0]
    if len(set(header)) != len(header):
        raise DataError(f"{path}: a name stands twice in the header: {', '.join(header)}.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise DataError(f"{path}, row {number}: expected {len(header)} fields. Got {len(row)}.")
    return dict(zip(header, map(list, zip(*rows[1:], strict=True)), strict=True))


def _check(path: str, table: Mapping[str, list[str]], columns: Columns) -> None:
    names = columns.names()
    for name in names:
        if name not in table:
            raise DataError(f"{path}: no column {name!r}. It has: {', '.join(table)}.")
        if names.count(name) > 1:
            raise DataError(f"{path}: column {name!r} is declared twice (numeric, categorical, ordinal, target).")
    if len(names) == 1:
        raise DataError(f"{path}: no input columns. Name them under numeric, categorical or ordinal.")


def _numbers(path: str, name: str, texts: Sequence[str]) -> NDArray[np.float64]:
    try:
        values = np.array(texts, dtype=np.float64)
    except ValueError:
        values = np.array([_number(text) for text in texts])
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        raise DataError(f"{path}, row {row + 2}, column {name!r}: expected a finite number. Got {texts[row]!r}.")
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _ranks(path: str, name: str, texts: Sequence[str], order: Sequence[str]) -> NDArray[np.float64]:
    rank = {kind: place for place, kind in enumerate(order)}
    for row, text in enumerate(texts):
        if text not in rank:
            raise DataError(f"{path}, row {row + 2}, column {name!r}: expected one of {list(order)}. Got {text!r}.")
    return np.array([rank[text] for text in texts], dtype=np.float64)


def _standardise(values: NDArray[np.float64], train: NDArray[np.int64]) -> tuple[NDArray[np.float64], float, float]:
    """Values with mean 0 and deviation 1 over the training rows, and the two; a constant column becomes zeros."""
    mean, scale = float(values[train].mean()), float(values[train].std())
    scale = scale if scale > 0 else 1.0
    return (values - mean) / scale, mean, scale


def _targets(
    path: str, columns: Columns, texts: Sequence[str], train: NDArray[np.int64]
) -> tuple[NDArray[Any], int, dict[str, Any]]:
    if columns.task == "classes":
        classes, codes = np.unique(np.array(texts), return_inverse=True)
        return codes.astype(np.int64), len(classes), {"classes": classes.tolist()}
    values = _numbers(path, columns.target, texts)
    lowest = {"none": -np.inf, "log": 0.0, "log1p": -1.0}[columns.transform]
    if values.min() <= lowest:
        row = int(values.argmin())
        raise DataError(
            f"{path}, row {row + 2}, column {columns.target!r}: transform {columns.transform} needs values above "
            f"{lowest:g}. Got {texts[row]}."
        )
    scaled, mean, scale = _standardise(_transform(values, columns.transform), train)
    extra = {"target_mean": mean, "target_scale": scale, "target_transform": columns.transform}
    return scaled[:, None].astype(np.float32), 1, extra


def _transform(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    if name == "none":
        return values
    return np.log(values) if name == "log" else np.log1p(values)
