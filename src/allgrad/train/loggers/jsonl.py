"""`metrics.jsonl`: one line of JSON per report, in the order of steps.

Contract. Each line has `step`. A line goes to the system whole and at once, so a killed run leaves at most its last line
incomplete. On resume from step s, the lines of later steps are cut off, and so is an incomplete last line: the file then
reads as if the run had never stopped. Non-finite floats are written as the strings "NaN", "Infinity", "-Infinity". The
file is never reached through a symbolic link, and a file that was deleted under a running job is an error, not silence.
"""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any, Self

from allgrad.errors import AllgradError
from allgrad.train.atomic import json_safe, sync_directory
from allgrad.train.config.registry import register_logger
from allgrad.train.loggers.base import Logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from allgrad.train.callbacks import RunContext

__all__ = ["JsonLines", "MetricsError", "jsonl"]


class MetricsError(AllgradError):
    """`metrics.jsonl` cannot be read or written; the message says why, and what to do."""


class JsonLines(Logger):
    """Appends to `metrics.jsonl`.

    Args:
        path: the file.
        resumed: the step from which the run continues; None for a new run, whose file must not exist yet.

    Raises:
        MetricsError: it cannot be opened, or a line before the resumed step is not JSON with a `step`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> with JsonLines(path) as lines:
        ...     lines.log(10, {"loss": 2.5})
        ...     lines.log(20, {"loss": 2.25})
        >>> JsonLines(path, resumed=10).close()
        >>> path.read_text()
        '{"step": 10, "loss": 2.5}\\n'
    """

    def __init__(self, path: Path, *, resumed: int | None = None) -> None:
        create = os.O_CREAT | (os.O_EXCL if resumed is None else 0)
        self._path = path
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | create, 0o666)
            sync_directory(path.parent)
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise MetricsError(f"Cannot open {path}: {why}. Move it away, or use another run.dir.") from error
        if resumed is not None:
            self.rewind(resumed)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            MetricsError: the disk is full, or the file was deleted.
            ValueError: the logger is closed.
        """
        if self._descriptor is None:
            raise ValueError("This metrics file is closed.")
        line = json.dumps(json_safe({"step": step, **values}), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            if not os.fstat(self._descriptor).st_nlink:
                raise OSError(errno.ENOENT, "it was deleted while the run was writing to it")
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise MetricsError(
                f"Cannot write {self._path}: {error.strerror}. Once there is room, continue from the newest checkpoint "
                f"with `allgrad resume {self._path.parent}`."
            ) from error

    def rewind(self, step: int) -> None:
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, _length_up_to(self._path, step))

    def close(self) -> None:
        """Wait until everything is on the disk. May be called twice."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.fsync(descriptor)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _length_up_to(path: Path, step: int) -> int:
    """The length in bytes of the whole lines of steps up to `step`; blank lines are kept."""
    length = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            if line.strip():
                try:
                    at = int(json.loads(line)["step"])
                except (ValueError, KeyError, TypeError) as error:
                    raise MetricsError(
                        f"{path}, line {number}: expected a JSON object with a step, got {line[:60]!r}. "
                        "Repair or remove this line, or move the file away."
                    ) from error
                if at > step:
                    break
            length += len(line)
    return length


@register_logger("jsonl")
def jsonl(run: RunContext) -> JsonLines:
    """One line of JSON per report in the run's metrics.jsonl."""
    return JsonLines(run.directory / "metrics.jsonl", resumed=run.progress.step if run.resumed else None)
