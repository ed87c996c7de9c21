"""From rows as people have them to a model's inputs, and from its outputs to answers, given what a run stored of its data.

The stored preprocessing (`DataSource.fitted`) says of which kind the data were:

| kind     | rows                                                                                   |
|----------|----------------------------------------------------------------------------------------|
| `table`  | a list of dicts, a dict of columns, a frame, an array with the columns in their order  |
| `images` | 8-bit pixels, (rows, height, width) or (rows, height, width, channels)                 |
| `text`   | a list of texts, or token ids (rows, tokens) int                                       |
| others   | numbers, (rows, *shape of one sample)                                                  |

Only the columns that the model uses are read, in any order; the target is not one of them.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.errors import DataError, listed
from allgrad.data.fit import complete_rows
from allgrad.data.frames import is_frame, table_of
from allgrad.data.images import standardised
from allgrad.data.preprocess import class_names, decode_values, encode_inputs
from allgrad.data.text import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from allgrad.data.datasets import DataInfo

__all__ = ["PreparedRows", "answers", "input_columns", "label_names", "prepare_rows"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRows:
    """Rows, ready for a model.

    Attributes:
        inputs: one sample for each row that is used; texts are padded at their end.
        count: the number of rows, with those that are not used.
        used: the numbers of the rows that are used: not those with missing values, for a model that was trained without such.
        lengths: tokens in each text; None for other data.
    """

    inputs: NDArray[Any]
    count: int
    used: NDArray[np.int64]
    lengths: NDArray[np.int64] | None = None


def prepare_rows(rows: Any, info: DataInfo, fitted: Mapping[str, Any], name: str = "rows") -> PreparedRows:
    """The model's inputs for rows.

    Args:
        rows: see the table at the top of this file.
        info, fitted: what the run stored of its training data.
        name: what messages call the rows.

    Raises:
        DataError: a column is missing, or a value is not what the model was trained on; with its place.
    """
    prepare = _PREPARE.get(fitted.get("kind", ""), _prepare_numbers)
    return prepare(rows, info, fitted, name)


def input_columns(fitted: Mapping[str, Any]) -> list[str]:
    """The columns of a table that a model needs."""
    return [column["name"] for column in fitted["columns"]]


def label_names(info: DataInfo, fitted: Mapping[str, Any]) -> list[Any] | None:
    """What a model's outputs stand for, in their order: classes, or the tokens of a vocabulary; None for values."""
    if info.kind == "classes":
        return class_names(fitted) if fitted.get("kind") == "table" else list(range(info.outputs))
    if info.kind != "tokens":
        return None
    unit = fitted.get("unit", "tokens")
    tokens = range(info.outputs)
    return (
        list(tokens)
        if unit == "tokens"
        else [decode(np.array([token]), unit, fitted["vocabulary"]) for token in tokens]
    )


def answers(outputs: NDArray[Any], info: DataInfo, fitted: Mapping[str, Any]) -> NDArray[Any]:
    """What a model's outputs say: values in the units of the target, or the names of the likeliest classes.

    Returns:
        (rows,), or (rows, *shape of one target) for several values.
    """
    if (names := label_names(info, fitted)) is not None:
        chosen: NDArray[Any] = np.array(names)[np.argmax(outputs, axis=-1)]
        return chosen
    if fitted.get("kind") == "table":
        return decode_values(outputs, fitted)[:, 0]
    values = np.asarray(outputs, np.float64)
    shape = (len(values), *fitted.get("target_shape", values.shape[1:]))
    return values.reshape(len(values) if math.prod(shape[1:]) == 1 else shape)


def _prepare_table(rows: Any, info: DataInfo, fitted: Mapping[str, Any], name: str) -> PreparedRows:  # noqa: ARG001
    names = input_columns(fitted)
    table = table_of(rows, names, name)
    if absent := [column for column in names if column not in table.columns]:
        raise DataError(
            f"{name}: the model needs these columns, which are missing: {listed(absent)}. There are: {listed(table.columns)}."
        )
    if unused := [column for column in table.columns if column not in {*names, fitted["target"]["name"]}]:
        _log.info("%s: the model does not use these columns: %s.", name, listed(unused))
    used = np.arange(len(table))
    if fitted["missing"] == "drop":
        used = complete_rows(
            table, names, [column["name"] for column in fitted["columns"] if column["type"] == "numeric"]
        )
    kept = table if len(used) == len(table) else table.rows(used.tolist())
    return PreparedRows(encode_inputs(kept, fitted), len(table), used)


def _prepare_images(rows: Any, info: DataInfo, fitted: Mapping[str, Any], name: str) -> PreparedRows:
    pixels = np.asarray(rows)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.shape[1:] != info.input_shape:
        raise DataError(
            f"{name}: expected 8-bit images, uint8 {_shape(info.input_shape)}. Got {pixels.dtype} of shape {pixels.shape}."
        )
    inputs = standardised(pixels, mean=fitted["mean"], scale=fitted["scale"])
    return PreparedRows(inputs, len(inputs), np.arange(len(inputs)))


def _prepare_texts(rows: Any, info: DataInfo, fitted: Mapping[str, Any], name: str) -> PreparedRows:
    context = info.input_shape[0]
    if fitted["unit"] == "tokens":
        ids = [np.asarray(row) for row in rows]
        if any(row.ndim != 1 or row.dtype.kind not in "iu" for row in ids):
            raise DataError(f"{name}: expected token ids, integers of shape (rows, tokens).")
    else:
        texts = [rows] if isinstance(rows, str) else list(rows)
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{name}: expected a list of texts.")
        ids = [encode(text, fitted["unit"], fitted["vocabulary"]) for text in texts]
    for number, row in enumerate(ids, start=1):
        if not len(row):
            raise DataError(
                f"{name}, row {number}: the text is empty. The model continues a text of at least one token."
            )
        if row.min() < 0 or row.max() >= info.outputs:
            raise DataError(
                f"{name}, row {number}: tokens must be in 0..{info.outputs - 1}. Got {row.min()}..{row.max()}."
            )
    lengths = np.array([min(len(row), context) for row in ids], np.int64)
    inputs = np.zeros((len(ids), int(lengths.max(initial=1))), np.int64)
    for row, tokens, length in zip(inputs, ids, lengths, strict=True):
        row[:length] = tokens[-length:]
    return PreparedRows(inputs, len(inputs), np.arange(len(inputs)), lengths)


def _prepare_numbers(rows: Any, info: DataInfo, fitted: Mapping[str, Any], name: str) -> PreparedRows:  # noqa: ARG001
    try:
        numbers = np.asarray(rows.to_numpy() if is_frame(rows) and hasattr(rows, "to_numpy") else rows)
    except ValueError as error:
        raise DataError(f"{name}: the rows have different lengths.") from error
    if numbers.shape == info.input_shape:
        numbers = numbers[None]
    if numbers.ndim == 1 and info.input_shape == (1,):
        numbers = numbers[:, None]
    if numbers.dtype.kind not in "biuf" or not numbers.ndim or numbers.shape[1:] != info.input_shape:
        raise DataError(
            f"{name}: expected numbers of shape {_shape(info.input_shape)}. Got {numbers.dtype} of shape {numbers.shape}."
        )
    return PreparedRows(numbers.astype(np.float32), len(numbers), np.arange(len(numbers)))


_PREPARE: dict[str, Callable[[Any, DataInfo, Mapping[str, Any], str], PreparedRows]] = {
    "table": _prepare_table,
    "images": _prepare_images,
    "text": _prepare_texts,
}


def _shape(sample: Sequence[int]) -> str:
    return f"(rows, {', '.join(map(str, sample))})"
