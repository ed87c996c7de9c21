"""The same numbers as TensorBoard events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from allgrad.errors import UsageError
from allgrad.train.config.registry import register_logger
from allgrad.train.loggers.base import Logger

if TYPE_CHECKING:
    from pathlib import Path

    from allgrad.train.callbacks import RunContext

__all__ = ["TensorBoard", "tensorboard"]


class TensorBoard(Logger):
    """Writes TensorBoard events through the package tensorboardX (`allgrad[tensorboard]`).

    Args:
        directory: where the event files go.
        resumed: the step from which the run continues: TensorBoard then drops what came after it.

    Raises:
        UsageError: the package is missing.
    """

    def __init__(self, directory: Path, *, resumed: int | None = None) -> None:
        self._directory = directory
        self._writer = self._open(resumed)

    def _open(self, resumed: int | None) -> Any:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "The tensorboard logger needs the package tensorboardX, which is not installed. "
                "Install allgrad[tensorboard], or remove tensorboard from logging.loggers."
            ) from error
        return SummaryWriter(str(self._directory), purge_step=None if resumed is None else resumed + 1)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers become scalars, those of a nested mapping under `outer/inner`; strings are left out."""
        for name, value in _scalars("", values):
            self._writer.add_scalar(name, value, step)

    def rewind(self, step: int) -> None:
        self._writer.close()
        self._writer = self._open(step)

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


@register_logger("tensorboard")
def tensorboard(run: RunContext) -> TensorBoard:
    """TensorBoard events in the run's directory; needs the extra `allgrad[tensorboard]`."""
    return TensorBoard(run.directory / "tensorboard", resumed=run.progress.step if run.resumed else None)
