"""`metrics.jsonl`: one line of JSON per entry, in the order of steps.

Contract. Each line has `step`. A line goes to the system whole and at once, so a killed run leaves at most its last line
incomplete. On resume from step s the lines of later steps are cut off, and so is an incomplete last line: the file then
reads as if the run had never stopped. Non-finite floats are written as the strings "NaN", "Infinity", "-Infinity".
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Self

from allgrad.train.atomic import json_safe, sync_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["MetricsError", "MetricsWriter"]


class MetricsError(RuntimeError):
    """A line that cannot be written; the message says why, and the way out."""

    exit_code = 1  # what the command line ends with


class MetricsWriter:
    """Appends to `metrics.jsonl`.

    Args:
        path: the file.
        resumed: the step from which the run goes on; None: a new run, whose file must not exist.

    Raises:
        FileExistsError: when a new run finds a file there.
        OSError: when it cannot be written.
        ValueError: when a line before the resumed step is not JSON with a `step`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> with MetricsWriter(path) as writer:
        ...     writer.write(10, {"loss": 2.5})
        ...     writer.write(20, {"loss": 2.25})
        >>> MetricsWriter(path, resumed=10).close()
        >>> path.read_text()
        '{"step": 10, "loss": 2.5}\\n'
    """

    def __init__(self, path: Path, *, resumed: int | None = None) -> None:
        create = os.O_CREAT | (os.O_EXCL if resumed is None else 0)
        self._path = path
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_APPEND | create, 0o666)
        if resumed is not None:
            os.ftruncate(self._descriptor, _length_up_to(path, resumed))
        sync_folder(path.parent)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line; values are numbers, texts, lists or mappings of them.

        Raises:
            MetricsError: when the disk is full.
            ValueError: when the writer is closed.
        """
        if self._descriptor is None:
            raise ValueError("metrics: the writer is closed.")
        line = json.dumps(json_safe({"step": step, **values}), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise MetricsError(
                f"{self._path}: cannot be written: {error.strerror}. Make room; `allgrad resume {self._path.parent}` then "
                "goes on from the newest checkpoint."
            ) from error

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
    """How many bytes the whole lines of steps up to `step` take."""
    length = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                at = json.loads(line)["step"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: expected JSON with a step. Got {line[:60]!r}.") from error
            if at > step:
                break
            length += len(line)
    return length
