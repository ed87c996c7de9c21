"""What was found in the data, for the user: encodings, separators, rows and columns that are left out."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["data_notes"]


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        note = record.getMessage()
        if note not in self.notes:
            self.notes.append(note)


@contextmanager
def data_notes() -> Iterator[list[str]]:
    """Inside, what the package `allgrad.data` notes is collected in the list that this gives."""
    logger, collector = logging.getLogger("allgrad.data"), _Collector()
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    try:
        yield collector.notes
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)
