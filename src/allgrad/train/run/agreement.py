"""A user's mistake that one rank finds becomes the same error on every rank, so that the job ends together and says it once.

A rank that raised on its own would leave the others waiting in MPI until the job is aborted, with whatever exit code the
launcher makes of that. Only users' mistakes (`AllgradError`) are shared; a bug stays where it arose (comm/failure.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from allgrad.errors import AllgradError, CollectiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.comm import World

__all__ = ["on_every_rank", "on_rank_0"]

T = TypeVar("T")


def on_every_rank(world: World, function: Callable[[], T]) -> T:
    """The result of `function()`, called on each rank; it must not call a collective.

    Raises:
        CollectiveError: on every rank, if any of several ranks found a user's mistake. A single rank raises the mistake itself.
    """
    if world.size == 1:
        return function()
    result, mistake = _outcome(function)
    mistakes = world.all_gather_json(None if mistake is None else [*mistake, world.host])
    failed = [rank for rank, one in enumerate(mistakes) if one is not None]
    if not failed:
        return cast("T", result)
    message, code, host = mistakes[failed[0]]
    whose = "" if len(failed) == world.size else f"rank {failed[0]} on {host}: "
    raise CollectiveError(whose + message, exit_code=code)


def on_rank_0(world: World, function: Callable[[], Any]) -> Any:
    """The result of rank 0's `function()`, on every rank; JSON must be able to hold it.

    Raises:
        CollectiveError: on every rank, if rank 0 found a user's mistake. A single rank raises the mistake itself.
    """
    if world.size == 1:
        return function()
    result, mistake = _outcome(function) if world.rank == 0 else (None, None)
    result, mistake = world.broadcast_json([result, mistake])
    if mistake is not None:
        raise CollectiveError(mistake[0], exit_code=mistake[1])
    return result


def _outcome(function: Callable[[], T]) -> tuple[T | None, tuple[str, int] | None]:
    """What a function returned, or the message and exit code of the user's mistake that it raised."""
    try:
        return function(), None
    except AllgradError as error:
        return None, (str(error), error.exit_code)
