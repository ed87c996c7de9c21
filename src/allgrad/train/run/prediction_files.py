"""The files of `allgrad predict`: rows in any of the forms that runs are trained on, predictions out."""

from __future__ import annotations

import csv
import importlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.csv_layout import Layout
from allgrad.data.errors import DataError, listed
from allgrad.data.idx import parse_idx
from allgrad.data.npy import open_array, open_arrays
from allgrad.data.sources import data_path, read_bytes
from allgrad.data.table_files import import_pyarrow, parse_table
from allgrad.errors import UsageError
from allgrad.train.atomic import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from allgrad.data.csv_files import Table

__all__ = ["Style", "check_output", "read_rows", "write_predictions"]

_FORMATS = (".csv", ".parquet", ".npz", ".npy")


@dataclass(frozen=True)
class Style:
    """How predictions are written as CSV: as the rows were, so that one program opens both."""

    separator: str = ","
    decimal: str = "."


def check_output(output: str | None) -> None:
    """Refuse an output file before any work is done for it.

    Raises:
        UsageError: its ending is none that can be written, or its directory does not exist.
    """
    if output is None:
        return
    path = Path(output)
    if path.suffix not in _FORMATS:
        raise UsageError(
            f"-o must name a file that ends in {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}, not {output!r}."
        )
    if not path.parent.is_dir():
        raise UsageError(f"-o {output}: there is no directory {path.parent}.")
    if path.suffix == ".parquet":
        import_pyarrow(output)


def read_rows(path: str, options: Any, fitted: Mapping[str, Any]) -> tuple[Any, Style]:
    """The rows of a file, as `allgrad.data.rows.prepare_rows` takes them.

    Args:
        path: a table, arrays, or a text file with one prompt per line: what the model was trained on.
        options: the section `data` of the run's configuration.
        fitted: what the run stored of its data.

    Returns:
        The rows, and how predictions are written beside them.

    Raises:
        DataError: the file is missing, damaged, or of another kind.
    """
    file = data_path(path)
    if fitted.get("kind") == "table":
        return _read_table(path, file, options)
    if fitted.get("kind") == "text" and fitted["unit"] != "tokens":
        try:
            lines = read_bytes(file).decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: not UTF-8 (invalid byte at offset {error.start}). Convert the file to UTF-8."
            ) from error
        return lines, Style()
    return _read_array(path, file, getattr(options, "inputs", "inputs")), Style()


def write_predictions(
    output: str | None,
    found: NDArray[Any],
    probabilities: NDArray[np.float64] | None,
    classes: Sequence[Any] | None,
    style: Style,
) -> None:
    """Write predictions, and for classes their probabilities.

    CSV and Parquet have the column `prediction` (`prediction 0`, ... for several values), and for classes one column
    `probability=NAME` per class. Without the names of the classes, there is one column `probability`, that of the prediction. A
    `.npz` file has the arrays `prediction`, `probability` and `classes`; a `.npy` file the values, or the probabilities.

    Args:
        output: the file; None prints CSV.
        found: what is predicted, (rows, ...).
        probabilities: (rows, classes), or None.
        classes: their names, or None.
        style: of CSV.
    """
    suffix = ".csv" if output is None else Path(output).suffix
    if suffix == ".npy":
        content = _saved(np.save, found if probabilities is None else probabilities)
    elif suffix == ".npz":
        more = {"probability": probabilities, "classes": None if classes is None else np.array(classes)}
        given = {name: array for name, array in more.items() if array is not None}
        content = _saved(np.savez, prediction=found, **given)
    else:
        columns = _columns(found, probabilities, classes)
        content = _csv(columns, style) if suffix == ".csv" else _parquet(columns)
    if output is None:
        sys.stdout.write(content.decode())
    else:
        write_atomic(Path(output), content)


def _read_table(path: str, file: Path, options: Any) -> tuple[Table, Style]:
    given: dict[str, Any] = {key: getattr(options, key, "auto") for key in ("separator", "decimal", "encoding")}
    table = parse_table(read_bytes(file), path, Layout(**given))
    return table, Style(table.separator, table.decimal)


def _read_array(path: str, file: Path, name: str) -> NDArray[Any]:
    if file.suffix == ".npy":
        return open_array(file)
    if file.suffix == ".npz" or file.is_dir():
        arrays = open_arrays(file)
        if len(arrays) > 1 and name not in arrays:
            raise DataError(f"{path}: there is no array {name!r}. There are: {listed(arrays)}.")
        return arrays.get(name, next(iter(arrays.values())))
    if "idx" in file.name:
        return parse_idx(read_bytes(file), path)
    raise DataError(f"{path}: this model was trained on arrays. Give a .npy, a .npz or an IDX file.")


def _columns(
    found: NDArray[Any], probabilities: NDArray[np.float64] | None, classes: Sequence[Any] | None
) -> dict[str, NDArray[Any]]:
    if found.ndim > 1:
        flat = found.reshape(len(found), -1)
        return {f"prediction {number}": flat[:, number] for number in range(flat.shape[1])}
    columns = {"prediction": found}
    if probabilities is not None and classes is not None:
        columns |= {f"probability={name}": probabilities[:, number] for number, name in enumerate(classes)}
    elif probabilities is not None:
        columns["probability"] = probabilities.max(axis=1, initial=0.0)
    return columns


def _csv(columns: Mapping[str, NDArray[Any]], style: Style) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=style.separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_texts(column, style.decimal) for column in columns.values()), strict=True))
    return text.getvalue().encode()


def _texts(column: NDArray[Any], decimal: str) -> list[str]:
    if column.dtype.kind != "f":
        return [str(value) for value in column.tolist()]
    # Nine digits hold every float32, which is what the model computes with.
    texts = ["" if value != value else f"{value:.9g}" for value in column.tolist()]
    return texts if decimal == "." else [text.replace(".", decimal) for text in texts]


def _parquet(columns: Mapping[str, NDArray[Any]]) -> bytes:
    pyarrow = import_pyarrow("-o")
    sink = pyarrow.BufferOutputStream()
    importlib.import_module("pyarrow.parquet").write_table(
        pyarrow.table({k: v.tolist() for k, v in columns.items()}), sink
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _saved(save: Any, *arrays: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()
