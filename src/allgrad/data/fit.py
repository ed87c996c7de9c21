"""Which columns of a table are used and how, and what is learned from the training rows: the fitted preprocessing."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from allgrad.data.column_values import codes, is_missing, mean_and_scale, missing_rows, numbers
from allgrad.data.dates import DAY, date_seconds, find_format
from allgrad.data.errors import DataError, listed
from allgrad.data.preprocess import transformed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from allgrad.data.csv_files import Table

__all__ = [
    "Columns",
    "Missing",
    "complete_rows",
    "drop_missing",
    "fit_columns",
    "fit_inputs",
    "fit_target",
    "resolve_columns",
]

Missing: TypeAlias = Literal["error", "drop", "mean", "category"]

_MANY_CLASSES = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are used, and how.

    Attributes:
        target: the column to predict.
        task: "values" (a number) or "classes" (each distinct text is a class; classes are sorted).
        numeric: columns of numbers; "auto" for all columns that have only numbers and are not named elsewhere.
        categorical: columns of names without an order.
        ordinal: columns of names with an order: column to names, lowest first.
        dates: columns of dates, with or without a time of day.
        date_format: how they are written: "auto" (found from the content), "iso", or a format of Python's `strptime`.
        unseen: what happens to a category that no row of the data had. "error": refused. "ignore": that column's inputs are 0.
        transform: applied to a numeric target before it is standardised: "none", "log", "log1p".
        missing: what happens to rows with a missing input. "error": refused. "drop": left out. "mean": the mean of the training
            rows takes its place; for a categorical column, the share of each category. "category": missing is a category of
            its own; a numeric column gets the mean and an additional 0/1 input. A missing target can only be dropped.
    """

    target: str
    task: Literal["values", "classes"] = "values"
    numeric: Sequence[str] | Literal["auto"] = ()
    categorical: Sequence[str] = ()
    ordinal: Mapping[str, Sequence[str]] | None = None
    dates: Sequence[str] = ()
    date_format: str = "auto"
    unseen: Literal["error", "ignore"] = "error"
    transform: Literal["none", "log", "log1p"] = "none"
    missing: Missing = "error"

    def names(self) -> list[str]:
        """All columns that are used, the target last."""
        return [*self.numeric, *self.categorical, *(self.ordinal or {}), *self.dates, self.target]

    def is_numeric(self, name: str) -> bool:
        """Whether a column holds numbers."""
        return name in self.numeric or (name == self.target and self.task == "values")


def resolve_columns(table: Table, columns: Columns) -> Columns:
    """The columns with the names that `numeric: auto` means.

    Raises:
        DataError: when a column is missing or declared twice, or there are no input columns.
    """
    if columns.numeric == "auto":
        named = {*columns.categorical, *(columns.ordinal or {}), *columns.dates, columns.target}
        free = [name for name in table.columns if name not in named]
        numeric = [name for name in free if _has_numbers_only(table, name)]
        if unused := [name for name in free if name not in numeric]:
            _log.info("%s: these columns are not numbers and are not used: %s.", table.name, listed(unused))
        columns = replace(columns, numeric=numeric)
    names = columns.names()
    for name in names:
        table.column(name)
        if names.count(name) > 1:
            raise DataError(
                f"{table.name}: column {name!r} is declared more than once (numeric, categorical, ordinal, dates, target)."
            )
    if len(names) == 1:
        raise DataError(
            f"{table.name}: there are no input columns. List them under numeric, categorical, ordinal or dates."
        )
    return columns


def drop_missing(table: Table, columns: Columns) -> Table:
    """The table without the rows in which a column that is used has no value."""
    names = columns.names()
    kept = complete_rows(table, names, [name for name in names if columns.is_numeric(name)])
    return table if len(kept) == len(table) else table.rows(kept.tolist())


def complete_rows(table: Table, names: Sequence[str], numeric: Sequence[str]) -> NDArray[np.int64]:
    """The rows that have a value in each of these columns; `numeric` says which of them hold numbers."""
    missing = [missing_rows(table, name, numeric=name in numeric) for name in names]
    dropped = np.unique(np.concatenate(missing))
    if len(dropped):
        _log.info("%s: %d of %d rows have missing values and are left out.", table.name, len(dropped), len(table))
    return np.setdiff1d(np.arange(len(table)), dropped)


def fit_columns(table: Table, columns: Columns, train: NDArray[np.int64]) -> dict[str, Any]:
    """The fitted preprocessing for `columns` of `table`; means, scales and shares are those of the rows `train`.

    Categories and classes are those of all rows, so that held-out rows are never unknown.

    Raises:
        DataError: naming file, line and column where a value is not as declared.
    """
    fitted = {"kind": "table", "missing": columns.missing, "columns": fit_inputs(table, columns, train)}
    return {**fitted, "target": fit_target(table, columns, train)}


def fit_target(table: Table, columns: Columns, train: NDArray[np.int64]) -> dict[str, Any]:
    """The fitted preprocessing of the target alone."""
    target: dict[str, Any] = {"name": columns.target, "type": columns.task}
    if columns.task == "classes":
        classes = _classes(table, columns.target)
        counts = np.bincount(codes(table, columns.target, classes)[train], minlength=len(classes))
        return {**target, "classes": classes, "class_counts": counts.tolist()}
    values = transformed(table, columns.target, columns.transform)
    return {**target, "transform": columns.transform, **_fit_scale(table, columns.target, values, train)}


def fit_inputs(table: Table, columns: Columns, train: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The fitted preprocessing of the input columns alone."""
    fitted = [_fit_numeric(table, name, columns.missing, train) for name in columns.numeric]
    fitted += [_fit_categorical(table, name, columns.missing, train) for name in columns.categorical]
    for name, order in (columns.ordinal or {}).items():
        ranks = codes(table, name, order).astype(np.float64)
        ranks[ranks < 0] = np.nan
        column = {"name": name, "type": "ordinal", "order": list(order), **_fit_scale(table, name, ranks, train)}
        fitted.append(_note_missing(column, ranks, columns.missing))
    fitted += [_fit_date(table, name, columns, train) for name in columns.dates]
    if columns.unseen == "ignore":
        fitted = [{**column, "unseen": "ignore"} if column["type"] == "categorical" else column for column in fitted]
    return fitted


def _has_numbers_only(table: Table, name: str) -> bool:
    try:
        return bool(np.isfinite(numbers(table, name)).any())
    except DataError:
        return False


def _fit_numeric(table: Table, name: str, missing: Missing, train: NDArray[np.int64]) -> dict[str, Any]:
    values = numbers(table, name)
    column = {"name": name, "type": "numeric", **_fit_scale(table, name, values, train)}
    return _note_missing(column, values, missing)


def _fit_date(table: Table, name: str, columns: Columns, train: NDArray[np.int64]) -> dict[str, Any]:
    written = find_format(table, name) if columns.date_format == "auto" else columns.date_format
    seconds = date_seconds(table, name, written)
    clock = bool((seconds[train] % DAY > 0).any())
    column = {"name": name, "type": "date", "format": written, "clock": clock}
    return _note_missing({**column, **_fit_scale(table, name, seconds, train)}, seconds, columns.missing)


def _note_missing(column: dict[str, Any], values: NDArray[np.float64], missing: Missing) -> dict[str, Any]:
    if missing == "category":
        column["missing"] = bool(np.isnan(values).any())
    return column


def _fit_categorical(table: Table, name: str, missing: Missing, train: NDArray[np.int64]) -> dict[str, Any]:
    texts = table.column(name)
    categories = sorted({text for text in set(texts) if not is_missing(text, numeric=False)})
    if missing == "category" and len(missing_rows(table, name, numeric=False)):
        categories.insert(0, "")
    column: dict[str, Any] = {"name": name, "type": "categorical", "categories": categories}
    if missing == "mean":
        found = codes(table, name, categories)[train]
        counts = np.bincount(found[found >= 0], minlength=len(categories))
        column["shares"] = (counts / max(counts.sum(), 1)).tolist()
    return column


def _fit_scale(table: Table, name: str, values: NDArray[np.float64], train: NDArray[np.int64]) -> dict[str, float]:
    present = values[train][~np.isnan(values[train])]
    if not len(present):
        raise DataError(f"{table.name}, column {name!r}: no training row has a value.")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = mean_and_scale(present)
    if not np.isfinite(mean) or not np.isfinite(scale):
        raise DataError(f"{table.name}, column {name!r}: its values are too large for a mean and a standard deviation.")
    return {"mean": mean, "scale": scale}


def _classes(table: Table, name: str) -> list[str]:
    labels = table.column(name)
    empty = missing_rows(table, name, numeric=False)
    if len(empty):
        raise DataError(
            f"{table.place(int(empty[0]), name)}: the class label is empty ({len(empty)} of {len(labels)} rows). "
            "Use `missing: drop` to leave such rows out."
        )
    classes = sorted(set(labels))
    if len(classes) > max(_MANY_CLASSES, len(labels) / 2):
        raise DataError(
            f"{table.name}, column {name!r}: {len(classes):,} different values in {len(labels):,} rows are too many for "
            "classes. For a number to predict, use `task: values`."
        )
    return classes
