"""Errors that are a message to the person at the terminal: printed without a traceback, ending in an exit code.

Any exception with an integer attribute `exit_code` is taken as one, so that the floors below (`train/config.py`) need
not import this one.
"""

from __future__ import annotations

__all__ = ["CommandError", "UsageError"]


class CommandError(Exception):
    """A command could not do what was asked; the message says why, and the way out."""

    exit_code = 1


class UsageError(CommandError):
    """The command line or a configuration is wrong."""

    exit_code = 2
