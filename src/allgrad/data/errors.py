"""The error for data that cannot be used, and how its messages show what a file contains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.errors import AllgradError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DataError", "listed", "quoted"]

_LENGTH = 60  # characters of a text
_COUNT = 12  # texts in a list


class DataError(AllgradError, ValueError):
    """Data that cannot be used. The message names the file, the place in it, what was expected and what was found."""


def quoted(text: str) -> str:
    """A text from a file in quotes, without line breaks, and cut if it is long.

    Example:
        >>> print(quoted("two\\nlines"))
        'two\\nlines'
    """
    return repr(text) if len(text) <= _LENGTH else f"{text[:_LENGTH]!r}... ({len(text):,} characters)"


def listed(texts: Iterable[str]) -> str:
    """Texts from a file in quotes; only the first ones of a long list.

    Example:
        >>> print(listed(["a", "b"]))
        'a', 'b'
    """
    known = list(texts)
    more = f", ... ({len(known):,} in all)" if len(known) > _COUNT else ""
    return ", ".join(map(quoted, known[:_COUNT])) + more or "none"
