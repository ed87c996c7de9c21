"""Turns rows of a table into model inputs, and model outputs into the target's units, given only the fitted preprocessing.

The fitted preprocessing is JSON. `allgrad.data.fit` makes it from the training rows. The functions here need only it, and not
the training file:

    {"kind": "table", "missing": "error",
     "columns": [{"name": "carat", "type": "numeric", "mean": 0.8, "scale": 0.47},
                 {"name": "cut", "type": "categorical", "categories": ["Fair", "Good"]},
                 {"name": "grade", "type": "ordinal", "order": ["low", "high"], "mean": 0.5, "scale": 0.5},
                 {"name": "sold", "type": "date", "format": "iso", "clock": false, "mean": 1.7e9, "scale": 3.1e7}],
     "target": {"name": "price", "type": "values", "transform": "log", "mean": 7.8, "scale": 1.0}}

A target of classes is {"name": ..., "type": "classes", "classes": [...], "class_counts": [...]}; the counts are those of the
training rows.

Numeric columns are standardised: (value - mean) / scale, with the mean and the standard deviation of the training rows.
A categorical column becomes one 0/1 input per category. An ordinal column becomes its rank in the given order, standardised.
A date becomes the inputs that `allgrad.data.dates` describes. A column of categories with "unseen": "ignore" is all 0 for a
category that it does not have; without it, such a category is an error. A constant column is centred and not scaled (see
`allgrad.data.column_values.mean_and_scale`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.column_values import codes, numbers, shown_rows
from allgrad.data.dates import PERIODS, cycles, date_seconds
from allgrad.data.errors import DataError, quoted
from allgrad.kernels.portable_math import exp, expm1, log, log1p

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from allgrad.data.csv_files import Table

__all__ = [
    "class_names",
    "decode_values",
    "encode_inputs",
    "encode_targets",
    "feature_names",
    "transformed",
]

_LOWEST = {"none": -np.inf, "log": 0.0, "log1p": -1.0}
_MAX_INPUTS = 4 << 30  # bytes of the encoded rows


def encode_inputs(table: Table, fitted: Mapping[str, Any]) -> NDArray[np.float32]:
    """The model's inputs for the rows of a table: (rows, features) float32.

    Raises:
        DataError: when a column is missing, or a value is missing, not a number or an unknown category; with its place and,
            for a category, the known ones.

    Example:
        >>> from allgrad.data.csv_files import Table
        >>> column = {"name": "cut", "type": "categorical", "categories": ["Fair", "Good"]}
        >>> encode_inputs(Table({"cut": ["Good", "Fair"]}), {"missing": "error", "columns": [column]}).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    widths = [len(_features(column)) for column in fitted["columns"]]
    if len(table) * sum(widths) * 4 > _MAX_INPUTS:
        widest = fitted["columns"][int(np.argmax(widths))]["name"]
        raise DataError(
            f"{table.name}: {len(table):,} rows with {sum(widths):,} inputs take more than {_MAX_INPUTS:,} bytes. Column "
            f"{widest!r} alone has {max(widths):,} categories; leave it out if it numbers or names the rows."
        )
    inputs = np.zeros((len(table), sum(widths)), np.float32)
    place = 0
    for column, width in zip(fitted["columns"], widths, strict=True):
        _WRITE[column["type"]](inputs[:, place : place + width], table, column, fitted["missing"])
        place += width
    return inputs


def encode_targets(table: Table, fitted: Mapping[str, Any]) -> NDArray[Any]:
    """The targets of the rows of a table: class numbers (rows,) int64, or standardised values (rows, 1) float32.

    Raises:
        DataError: for an unknown class, or a value that is missing, not a number or outside the transform's domain.
    """
    target = fitted["target"]
    if target["type"] == "classes":
        classes = codes(table, target["name"], target["classes"])
        _refuse_missing(table, target["name"], classes < 0, "Use `missing: drop` to leave such rows out.")
        return classes
    values = transformed(table, target["name"], target["transform"])
    scaled: NDArray[np.float64] = (values - target["mean"]) / target["scale"]
    return scaled[:, None].astype(np.float32)


def decode_values(outputs: NDArray[Any], fitted: Mapping[str, Any]) -> NDArray[np.float64]:
    """A model's outputs in the units of the target column, float64: the inverse of standardisation and transform.

    Example:
        >>> target = {"name": "price", "type": "values", "transform": "log", "mean": 0.0, "scale": 2.0}
        >>> decode_values(np.array([[0.0], [0.5]]), {"target": target}).round(4).tolist()
        [[1.0], [2.7183]]
    """
    target = fitted["target"]
    values: NDArray[np.float64] = np.asarray(outputs, np.float64) * target["scale"] + target["mean"]
    back: Mapping[str, Callable[[Any], Any]] = {"none": np.positive, "log": exp, "log1p": expm1}
    return np.asarray(back[target["transform"]](values))


def class_names(fitted: Mapping[str, Any]) -> list[str]:
    """The names of the classes, in the order of the model's outputs."""
    return list(fitted["target"]["classes"])


def feature_names(fitted: Mapping[str, Any]) -> list[str]:
    """The names of the model's inputs: the column, or `column=category`.

    Example:
        >>> feature_names({"columns": [{"name": "cut", "type": "categorical", "categories": ["Fair", "Good"]}]})
        ['cut=Fair', 'cut=Good']
    """
    return [name for column in fitted["columns"] for name in _features(column)]


def transformed(table: Table, name: str, transform: str) -> NDArray[np.float64]:
    """The values of a numeric target after the transform.

    Raises:
        DataError: when a value is missing, not a number, or outside the transform's domain.
    """
    try:
        values = numbers(table, name)
    except DataError as error:
        raise DataError(f"{error} For a target of names, use `task: classes`.") from error
    _refuse_missing(table, name, np.isnan(values), "Use `missing: drop` to leave such rows out.")
    lowest = _LOWEST[transform]
    if len(values) and values.min() <= lowest:
        row = int(values.argmin())
        raise DataError(
            f"{table.place(row, name)}: transform {transform} needs values above {lowest:g}. "
            f"Got {quoted(table.column(name)[row])}."
        )
    if transform == "none":
        return values
    result: NDArray[np.float64] = (log if transform == "log" else log1p)(values)
    return result


def _features(column: Mapping[str, Any]) -> list[str]:
    name = column["name"]
    if column["type"] == "categorical":
        return [f"{name}={category or 'missing'}" for category in column["categories"]]
    names = [name]
    if column["type"] == "date":
        periods = [period for period in PERIODS if column["clock"] or period != "day"]
        names += [f"{name}={period} {wave}" for period in periods for wave in ("sin", "cos")]
    return [*names, f"{name}=missing"] if column.get("missing") else names


def _write_numbers(inputs: NDArray[np.float32], table: Table, column: Mapping[str, Any], missing: str) -> None:
    """Fill the inputs (rows, 1 or 2) of a numeric or ordinal column."""
    if column["type"] == "ordinal":
        values = codes(table, column["name"], column["order"]).astype(np.float64)
        absent = values < 0
    else:
        values = numbers(table, column["name"])
        absent = np.isnan(values)
    _write_scaled(inputs, values, absent, table, column, missing)


def _write_dates(inputs: NDArray[np.float32], table: Table, column: Mapping[str, Any], missing: str) -> None:
    """Fill the inputs (rows, 5 to 8) of a column of dates; the cycles of a missing date are 0."""
    seconds = date_seconds(table, column["name"], column["format"])
    absent = np.isnan(seconds)
    waves = cycles(np.where(absent, 0.0, seconds), clock=column["clock"])
    inputs[:, 1 : 1 + waves.shape[1]] = np.where(absent[:, None], 0.0, waves)
    _write_scaled(inputs, seconds, absent, table, column, missing)


def _write_scaled(
    inputs: NDArray[np.float32],
    values: NDArray[np.float64],
    absent: NDArray[np.bool_],
    table: Table,
    column: Mapping[str, Any],
    missing: str,
) -> None:
    """Fill the first input with the standardised values, and the last one, if it is for that, with what is missing."""
    if column.get("missing"):
        inputs[:, -1] = absent
    elif missing != "mean":
        _refuse_missing(table, column["name"], absent, _ADVICE[missing])
    inputs[:, 0] = (np.where(absent, column["mean"], values) - column["mean"]) / column["scale"]


def _write_categories(inputs: NDArray[np.float32], table: Table, column: Mapping[str, Any], missing: str) -> None:
    """Fill the inputs (rows, categories) of a categorical column."""
    found = codes(table, column["name"], column["categories"], unseen=column.get("unseen") == "ignore")
    absent = found == -1
    if missing == "mean":
        inputs[absent] = column["shares"]
    else:
        _refuse_missing(table, column["name"], absent, _ADVICE[missing])
    known = np.flatnonzero(found >= 0)
    inputs[known, found[known]] = 1.0


_WRITE = {"numeric": _write_numbers, "ordinal": _write_numbers, "date": _write_dates, "categorical": _write_categories}


_ADVICE = {
    "error": "Fill in the values, or train with `missing: drop`, `mean` or `category`.",
    "drop": "The model was trained without such rows. Fill in the values.",
    "category": "No training row had a missing value in this column. Fill in the values.",
}


def _refuse_missing(table: Table, name: str, absent: NDArray[np.bool_], advice: str) -> None:
    if absent.any():
        row = int(np.argmax(absent))
        raise DataError(
            f"{table.place(row, name)}: the value is missing ({int(absent.sum()):,} of {len(absent):,} rows"
            f"{shown_rows(table, absent)}). {advice}"
        )
