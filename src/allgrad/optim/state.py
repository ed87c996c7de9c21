"""What the `state_dict` and `load_state_dict` of optimizers, averages, and schedulers have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.stateful import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, np.dtype[Any]]


def load_arrays(where: str, mine: Mapping[str, Array], saved: Mapping[str, Array]) -> None:
    """Copy saved arrays into arrays of the same names and shapes.

    Args:
        where: the call, for messages.
        mine: the arrays to write.
        saved: the arrays to read.

    Raises:
        StateError: if names or shapes differ; the message lists up to eight. Nothing is written in that case.
    """
    wrong = [f"missing {key}" for key in mine if key not in saved]
    wrong += [f"unexpected {key}" for key in saved if key not in mine]
    wrong += [
        f"{key} has shape {np.shape(saved[key])}, expected {array.shape}"
        for key, array in mine.items()
        if key in saved and np.shape(saved[key]) != array.shape
    ]
    if wrong:
        raise StateError(f"{where}: {'; '.join(wrong[:8])}{' ...' if len(wrong) > 8 else ''}.")
    for key, array in mine.items():
        array[...] = saved[key]


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON values: tuples become lists."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
