"""The error for data that cannot be used."""

from __future__ import annotations

from allgrad.errors import AllgradError

__all__ = ["DataError"]


class DataError(AllgradError, ValueError):
    """Data that cannot be used. The message names the file, the place in it, what was expected and what was found."""
