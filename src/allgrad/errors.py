"""The class hierarchy of users' mistakes, and the exit codes of the command `allgrad`.

An `AllgradError` is a message to the user: what happened, where, what was expected, and what to do. The command prints it
without a traceback and ends with its `exit_code`. Every other exception is a bug, ours or in the user's own code, and keeps
its traceback. Packages define their own subclasses next to the code that raises them, and may inherit from a built-in
exception as well, so that `except ValueError` works for those who use allgrad as a library.

| exit code | meaning                                                                                    |
|-----------|--------------------------------------------------------------------------------------------|
| 0         | done                                                                                       |
| 1         | failed: bad data, a damaged checkpoint, ranks that disagree, MPI that does not start, a bug |
| 2         | the command line or the configuration is wrong                                             |
| 3         | a loss, gradient, weight or monitored metric is NaN or infinite                            |
| 4         | a signal asked the run to stop; its state is saved, and `allgrad resume` continues it      |
| 130       | interrupted a second time, before the state was saved                                      |
"""

from __future__ import annotations

__all__ = ["AllgradError", "CollectiveError", "NonFiniteError", "OptionError", "UsageError"]

EXIT_STOPPED = 4
"""The exit code of a run that a signal stopped after saving its state."""


class AllgradError(Exception):
    """A message to the user. `exit_code` is what the command `allgrad` ends with."""

    exit_code = 1


class UsageError(AllgradError):
    """The command line or the configuration is wrong."""

    exit_code = 2


class OptionError(UsageError, ValueError):
    """A component, such as a layer or an optimizer, cannot be built with these options."""


class CollectiveError(AllgradError, RuntimeError):
    """Raised on every rank with the same message, so one rank can speak for all.

    Args:
        message: the same text on every rank.
        exit_code: what the command ends with.

    Example:
        >>> CollectiveError("The ranks disagree.").exit_code
        1
    """

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class NonFiniteError(CollectiveError):
    """A loss, gradient, weight or monitored metric is NaN or infinite."""

    exit_code = 3
