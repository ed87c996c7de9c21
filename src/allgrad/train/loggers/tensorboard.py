"""The same numbers as TensorBoard events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TensorBoardWriter"]


class TensorBoardWriter:
    """The same numbers as TensorBoard events, through the package tensorboardX (`allgrad[tensorboard]`).

    Args:
        folder: where event files go.
        resumed: the step from which the run goes on: TensorBoard then drops what came after it.

    Raises:
        ImportError: when the package is missing, with how to install it.
    """

    def __init__(self, folder: Path, *, resumed: int | None = None) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "logging.tensorboard: the package tensorboardX is missing. Install allgrad[tensorboard], "
                "or set it to false."
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=None if resumed is None else resumed + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers become scalars, those of a nested mapping under `outer/inner`; texts are left to the JSON file."""
        for name, value in _scalars("", values):
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def _scalars(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(f"{prefix}{name}/", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found
