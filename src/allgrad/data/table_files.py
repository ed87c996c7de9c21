"""Files with tables: CSV, and Parquet and Arrow (with pyarrow), told apart by their first bytes."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from allgrad.data.csv_files import Table, parse_csv
from allgrad.data.errors import DataError, listed
from allgrad.data.frames import column_of
from allgrad.data.sources import data_path, read_bytes

if TYPE_CHECKING:
    from allgrad.data.csv_layout import Layout

__all__ = ["import_pyarrow", "parse_table", "read_table"]

_PARQUET, _ARROW = b"PAR1", b"ARROW1"

_log = logging.getLogger(__name__)


def read_table(path: str, layout: Layout | None = None) -> Table:
    """The columns of a file.

    Raises:
        DataError: when the file is missing, or is not a table with a header and rows.
    """
    return parse_table(read_bytes(data_path(path)), path, layout)


def parse_table(content: bytes, name: str, layout: Layout | None = None) -> Table:
    """The table in a file's content; `layout` is for CSV.

    Raises:
        DataError: when it is damaged or has no rows, or is Parquet or Arrow and pyarrow is not installed.
    """
    if content.startswith((_PARQUET, _ARROW)):
        return _parse_arrow(content, name)
    return parse_csv(content, name, layout)


def import_pyarrow(what: str) -> Any:
    """The module pyarrow.

    Raises:
        DataError: it is not installed, and `what` needs it.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise DataError(
            f"{what}: Parquet and Arrow files need pyarrow. Install it with `pip install allgrad[tables]`."
        ) from error


def _parse_arrow(content: bytes, name: str) -> Table:
    pyarrow = import_pyarrow(name)
    try:
        source = pyarrow.BufferReader(content)
        if content.startswith(_PARQUET):
            table = importlib.import_module("pyarrow.parquet").read_table(source)
        else:
            table = pyarrow.ipc.open_file(source).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: damaged, or not a Parquet or Arrow file: {str(error).splitlines()[0]}") from error
    if not len(table):
        raise DataError(f"{name}: the table has no rows.")
    nested = [field.name for field in table.schema if pyarrow.types.is_nested(field.type)]
    if nested:
        _log.info("%s: these columns hold lists or structures and are not used: %s.", name, listed(nested))
    names = [column for column in table.column_names if column not in nested]
    return Table({column: column_of(table[column], f"{name}, column {column!r}") for column in names}, name)
