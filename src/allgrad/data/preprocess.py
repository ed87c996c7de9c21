"""Turns rows of a table into model inputs, and model outputs into the target's units, given only the fitted preprocessing.

The fitted preprocessing is JSON. `fit_columns` makes it from the training rows. The other functions need only it, and not
the training file:

    {"kind": "table",
     "columns": [{"name": "carat", "type": "numeric", "mean": 0.8, "scale": 0.47},
                 {"name": "cut", "type": "categorical", "categories": ["Fair", "Good"]},
                 {"name": "grade", "type": "ordinal", "order": ["low", "high"], "mean": 0.5, "scale": 0.5}],
     "target": {"name": "price", "type": "values", "transform": "log", "mean": 7.8, "scale": 1.0}}

A target of classes is {"name": ..., "type": "classes", "classes": [...]}.

Numeric columns are standardised: (value - mean) / scale, with the mean and the standard deviation of the training rows.
A categorical column becomes one 0/1 input per category. An ordinal column becomes its rank in the given order, standardised.

A column is treated as constant when its standard deviation is at most 1.2e-7 (float32's machine epsilon) times its largest
absolute value, since its variation may then be rounding noise. It is centred and not scaled (its scale is 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.data.errors import DataError, listed, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from allgrad.data.csv_files import Table

__all__ = [
    "Columns",
    "class_names",
    "decode_values",
    "encode_inputs",
    "encode_targets",
    "feature_names",
    "fit_columns",
    "mean_and_scale",
]

_CONSTANT = float(np.finfo(np.float32).eps)
_LOWEST = {"none": -np.inf, "log": 0.0, "log1p": -1.0}
_MANY_CLASSES = 1000
_MAX_INPUTS = 4 << 30  # bytes of the encoded rows


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are used, and how.

    Attributes:
        target: the column to predict.
        task: "values" (a number) or "classes" (each distinct text is a class; classes are sorted).
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
        """All columns that are used, the target last."""
        return [*self.numeric, *self.categorical, *(self.ordinal or {}), self.target]


def fit_columns(table: Table, columns: Columns, train: NDArray[np.int64]) -> dict[str, Any]:
    """The fitted preprocessing for `columns` of `table`; means and scales are those of the rows `train`.

    Categories and classes are those of all rows, so that held-out rows are never unknown.

    Raises:
        DataError: naming file, line and column where a value is not as declared.
    """
    fitted: list[dict[str, Any]] = []
    for name in columns.numeric:
        scaling = _fit_scale(_numbers(table, name), train, table, name)
        fitted.append({"name": name, "type": "numeric", **scaling})
    for name in columns.categorical:
        categories = sorted(set(table.column(name)))
        fitted.append({"name": name, "type": "categorical", "categories": categories})
    for name, order in (columns.ordinal or {}).items():
        scaling = _fit_scale(_codes(table, name, order).astype(np.float64), train, table, name)
        fitted.append({"name": name, "type": "ordinal", "order": list(order), **scaling})
    target: dict[str, Any] = {"name": columns.target, "type": columns.task}
    if columns.task == "classes":
        target["classes"] = _classes(table, columns.target)
    else:
        values = _transformed(table, columns.target, columns.transform)
        target |= {"transform": columns.transform, **_fit_scale(values, train, table, columns.target)}
    return {"kind": "table", "columns": fitted, "target": target}


def encode_inputs(table: Table, fitted: Mapping[str, Any]) -> NDArray[np.float32]:
    """The model's inputs for the rows of a table: (rows, features) float32.

    Raises:
        DataError: when a column is missing, or a value is not a number or an unknown category; with its place and, for a
            category, the known ones.

    Example:
        >>> from allgrad.data.csv_files import Table
        >>> column = {"name": "cut", "type": "categorical", "categories": ["Fair", "Good"]}
        >>> encode_inputs(Table({"cut": ["Good", "Fair"]}), {"columns": [column]}).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    features = sum(_width(column) for column in fitted["columns"])
    if len(table) * features * 4 > _MAX_INPUTS:
        widest = max(fitted["columns"], key=_width)
        raise DataError(
            f"{table.name}: {len(table):,} rows with {features:,} inputs take more than {_MAX_INPUTS:,} bytes. Column "
            f"{widest['name']!r} alone has {_width(widest):,} categories; leave it out if it numbers or names the rows."
        )
    inputs = np.zeros((len(table), features), np.float32)
    for column, place in _placed(fitted):
        name = column["name"]
        if column["type"] == "categorical":
            codes = _codes(table, name, column["categories"])
            inputs[np.arange(len(table)), place + codes] = 1.0
        else:
            ordinal = column["type"] == "ordinal"
            values = _codes(table, name, column["order"]) if ordinal else _numbers(table, name)
            inputs[:, place] = (values - column["mean"]) / column["scale"]
    return inputs


def encode_targets(table: Table, fitted: Mapping[str, Any]) -> NDArray[Any]:
    """The targets of the rows of a table: class numbers (rows,) int64, or standardised values (rows, 1) float32.

    Raises:
        DataError: for an unknown class, or a value that is not a number or outside the transform's domain.
    """
    target = fitted["target"]
    if target["type"] == "classes":
        return _codes(table, target["name"], target["classes"])
    values = _transformed(table, target["name"], target["transform"])
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
    return {"none": np.positive, "log": np.exp, "log1p": np.expm1}[target["transform"]](values)


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


def mean_and_scale(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; the deviation is 1 where the values are constant (see the top of this file).

    Example:
        >>> mean_and_scale(np.array([1.0, 3.0])), mean_and_scale(np.full(3, 0.1))[1]
        ((2.0, 1.0), 1.0)
    """
    mean, scale = float(values.mean()), float(values.std())
    return mean, 1.0 if scale <= _CONSTANT * float(np.abs(values).max()) else scale


def _placed(fitted: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """The columns, each with the number of its first input."""
    place = 0
    for column in fitted["columns"]:
        yield column, place
        place += _width(column)


def _width(column: Mapping[str, Any]) -> int:
    return len(column["categories"]) if column["type"] == "categorical" else 1


def _features(column: Mapping[str, Any]) -> list[str]:
    if column["type"] == "categorical":
        return [f"{column['name']}={category}" for category in column["categories"]]
    return [column["name"]]


def _fit_scale(values: NDArray[np.float64], train: NDArray[np.int64], table: Table, name: str) -> dict[str, float]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = mean_and_scale(values[train])
    if not np.isfinite(mean) or not np.isfinite(scale):
        raise DataError(f"{table.name}, column {name!r}: its values are too large for a mean and a standard deviation.")
    return {"mean": mean, "scale": scale}


def _classes(table: Table, name: str) -> list[str]:
    labels = table.column(name)
    empty = [row for row, label in enumerate(labels) if not label.strip()]
    if empty:
        raise DataError(
            f"{table.place(empty[0], name)}: the class label is empty ({len(empty)} of {len(labels)} rows)."
        )
    classes = sorted(set(labels))
    if len(classes) > max(_MANY_CLASSES, len(labels) / 2):
        raise DataError(
            f"{table.name}, column {name!r}: {len(classes):,} different values in {len(labels):,} rows are too many for "
            "classes. For a number to predict, use `task: values`."
        )
    return classes


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    texts = table.column(name)
    try:
        values = np.array(texts, dtype=np.float64)
    except ValueError:
        values = np.array([_number(text) for text in texts])
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        raise DataError(f"{table.place(row, name)}: expected a finite number. Got {quoted(texts[row])}.")
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _codes(table: Table, name: str, known: Sequence[str]) -> NDArray[np.int64]:
    """The place of each text in `known`."""
    place = {text: code for code, text in enumerate(known)}
    codes = np.array([place.get(text, -1) for text in table.column(name)], dtype=np.int64)
    bad = np.flatnonzero(codes < 0)
    if len(bad):
        row = int(bad[0])
        got = quoted(table.column(name)[row])
        raise DataError(f"{table.place(row, name)}: expected one of {listed(known)}. Got {got}.")
    return codes


def _transformed(table: Table, name: str, transform: str) -> NDArray[np.float64]:
    values = _numbers(table, name)
    lowest = _LOWEST[transform]
    if len(values) and values.min() <= lowest:
        row = int(values.argmin())
        raise DataError(
            f"{table.place(row, name)}: transform {transform} needs values above {lowest:g}. "
            f"Got {quoted(table.column(name)[row])}."
        )
    if transform == "none":
        return values
    return np.log(values) if transform == "log" else np.log1p(values)
