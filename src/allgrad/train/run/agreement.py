"""A user's mistake, found on one rank or on all: the same error on every rank, so that they end together and say it once.

A rank that raised by itself would leave the others waiting in MPI, until the job is aborted with whatever exit code the launcher
makes of that. Only mistakes (exceptions with an `exit_code`) are shared; a bug stays where it arose (comm/failure.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from allgrad.errors import CollectiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.comm import World

__all__ = ["SharedError", "on_every_rank", "on_rank_0"]

T = TypeVar("T")


class SharedError(CollectiveError):
    """A user's mistake, raised with this message on every rank; the command line ends with `exit_code`."""

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def on_every_rank(world: World, function: Callable[[], T]) -> T:
    """`function()`, which calls no collective, on each rank.

    Raises:
        SharedError: on every rank, where it was a user's mistake on one of several; alone, the mistake itself is raised.
    """
    if world.size == 1:
        return function()
    result, problem = _outcome(function)
    problems = world.all_gather_json(None if problem is None else [*problem, world.host])
    failed = [rank for rank, one in enumerate(problems) if one is not None]
    if not failed:
        return cast("T", result)
    message, code, host = problems[failed[0]]
    whose = "" if len(failed) == world.size else f"rank {failed[0]} on {host}: "
    raise SharedError(whose + message, exit_code=code)


def on_rank_0(world: World, function: Callable[[], Any]) -> Any:
    """`function()` of rank 0, whose result is JSON, on every rank.

    Raises:
        SharedError: on every rank, where it was a user's mistake.
    """
    result, problem = _outcome(function) if world.rank == 0 else (None, None)
    result, problem = world.broadcast_json([result, problem])
    if problem is not None:
        raise SharedError(problem[0], exit_code=problem[1])
    return result


def _outcome(function: Callable[[], T]) -> tuple[T | None, tuple[str, int] | None]:
    """What a function returned, or the message and exit code of the user's mistake that it found."""
    try:
        return function(), None
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        return None, (str(error), code)
