"""Rows as people have them in Python, as a `Table`: dicts, lists, NumPy arrays, frames of pandas, polars and Arrow.

Frames are recognised by what they can do, and none of these libraries is imported: a frame has `columns` (pandas, polars) or
`column_names` (Arrow), and `frame[name]` is a column that NumPy can convert.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.csv_files import Table
from allgrad.data.errors import DataError, listed
from allgrad.data.number_texts import NumberTexts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["column_of", "is_frame", "table_of"]

_MISSING_TYPES = ("NAType", "NaTType", "NoneType")


def is_frame(rows: Any) -> bool:
    """Whether an object is a frame of pandas, polars or Arrow."""
    return hasattr(rows, "column_names") or (hasattr(rows, "columns") and hasattr(rows, "__getitem__"))


def table_of(rows: Any, names: Sequence[str], name: str = "rows") -> Table:
    """The table in `rows`; a single dict of numbers and texts is one row.

    Args:
        rows: a `Table`, a list of dicts, a dict of columns, a frame, or a two-dimensional array whose columns are `names`.
        names: the columns that are needed, in the order of an array's columns. Frames may have more, in any order.
        name: what messages call the table.

    Raises:
        DataError: when `rows` is nothing of that, or columns differ in length.

    Example:
        >>> table_of([{"area": 150, "heating": "oil"}], ["area", "heating"]).columns["heating"]
        ['oil']
    """
    if isinstance(rows, Table):
        return rows
    columns: Mapping[str, Any]
    if is_frame(rows):
        columns = {str(key): rows[key] for key in getattr(rows, "column_names", None) or rows.columns}
    elif isinstance(rows, dict):
        scalar = all(isinstance(value, str) or not hasattr(value, "__len__") for value in rows.values())
        columns = {key: [value] if scalar else value for key, value in rows.items()}
    elif isinstance(rows, list | tuple) and rows and all(isinstance(row, dict) for row in rows):
        keys = dict.fromkeys(key for row in rows for key in row)
        columns = {key: [row.get(key) for row in rows] for key in keys}
    else:
        columns = _array_columns(rows, names, name)
    made = {str(key): column_of(values, f"{name}, column {key!r}") for key, values in columns.items() if key in names}
    lengths = {key: len(values) for key, values in made.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{name}: the columns must have one common length. Got {lengths}.")
    return Table(made, name)


def column_of(values: Any, what: str) -> Sequence[str]:
    """A column as texts: numbers stay numbers, dates become ISO 8601, and None, NaN, NaT and NA become the empty text.

    Raises:
        DataError: when the values have more than one axis.
    """
    array = _as_array(values)
    if array.ndim != 1:
        raise DataError(f"{what}: expected one value per row. Got an array of shape {array.shape}.")
    if array.dtype.kind in "fiu":
        return NumberTexts(array)
    if array.dtype.kind == "M":
        texts = np.datetime_as_string(array.astype("datetime64[us]")).tolist()
        return ["" if text == "NaT" else text for text in texts]
    listed_values = array.tolist()
    if listed_values and all(_is_number(value) for value in listed_values):
        return NumberTexts(np.array([np.nan if _is_missing(value) else value for value in listed_values], np.float64))
    return [_text(value) for value in listed_values]


def _array_columns(rows: Any, names: Sequence[str], name: str) -> Mapping[str, Any]:
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise DataError(f"{name}: the rows have different lengths.") from error
    if array.ndim != 2 or array.shape[1] != len(names):
        raise DataError(
            f"{name}: expected rows with the {len(names)} columns {listed(names)}, as an array of shape "
            f"(rows, {len(names)}), a frame, a list of dicts or a dict of columns. Got {_described(rows, array)}."
        )
    return {column: array[:, number] for number, column in enumerate(names)}


def _described(rows: Any, array: NDArray[Any]) -> str:
    if array.ndim:
        return f"an array of shape {array.shape}"
    return f"a {type(rows).__name__}"


def _as_array(values: Any) -> NDArray[Any]:
    """A column as an array; a missing number is NaN where the library's own conversion would not do that."""
    if hasattr(values, "chunks") and hasattr(values, "type"):  # Arrow
        return _from_arrow(values)
    array = np.asarray(values)
    return array if array.dtype.kind in "fiubM" else np.asarray(values, dtype=object)


def _from_arrow(column: Any) -> NDArray[Any]:
    if str(column.type).startswith("timestamp"):
        return np.asarray(column.cast("timestamp[us]", safe=False).to_numpy())
    if str(column.type).startswith(("float", "double", "int", "uint", "halffloat")):
        return np.asarray(column.to_numpy())  # integers with a null become float64 with NaN
    array = np.empty(len(column), object)
    array[:] = column.to_pylist()
    return array


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in _MISSING_TYPES or (isinstance(value, float) and value != value)


def _is_number(value: Any) -> bool:
    return _is_missing(value) or (isinstance(value, int | float | np.number) and not isinstance(value, bool))


def _text(value: Any) -> str:
    if _is_missing(value):
        return ""
    return value.isoformat() if isinstance(value, datetime.date) else str(value)
