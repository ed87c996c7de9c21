"""What a run reports while it goes, and at its end.

Contract.

- `metrics.jsonl`: a line of JSON for each `write`, in the order of steps; each has `step`. A line goes to the system
  whole and at once, so that a killed run leaves at most its last line cut. On resume from step s, lines of steps after
  s are cut off, and a cut last line too: the file then reads as if the run had never stopped.
- Numbers that are none are texts: "NaN", "Infinity", "-Infinity".
- `summary.json` is there only when the run is at its end, and then it is whole.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO

from allgrad.train.files import json_safe, sync_folder, write_json_atomic

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from rich.progress import Progress, TaskID

__all__ = [
    "SUMMARY_KEYS",
    "MetricsError",
    "MetricsWriter",
    "ProgressLine",
    "TensorBoardWriter",
    "duration",
    "write_summary",
]

SUMMARY_KEYS = (
    "steps",
    "epochs",
    "train_loss",
    "eval",
    "weights_sha256",
    "ranks",
    "virtual_workers",
    "seconds",
    "samples_per_second",
    "comm_hidden_fraction",
)
"""What every summary has at least; scripts rely on it."""


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


class ProgressLine:
    """One line that says how far the run is: step, loss, speed, time left.

    On a terminal it is a live line (rich); elsewhere a plain line for each `update`, which a log file can keep.

    Args:
        total: steps in all.
        start: steps done before (after a resume).
        unit: what `rate` counts, for example "tokens".
        style: "auto" (live on a terminal), "plain", or "none".
        stream: where to write.

    Example:
        >>> import sys
        >>> with ProgressLine(200, unit="tokens", style="plain", stream=sys.stdout) as line:
        ...     line.update(50, {"loss": 2.5}, rate=12345.6, seconds_left=61)
        step 50/200  loss 2.5000  12,346 tokens/s  1:01 left
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        unit: str = "samples",
        style: Literal["auto", "plain", "none"] = "auto",
        stream: TextIO | None = None,
    ) -> None:
        self._total = total
        self._start = start
        self._unit = unit
        self._stream = stream if stream is not None else sys.stdout
        self._silent = style == "none"
        self._began = time.monotonic()
        self._live: Progress | None = None
        self._task: TaskID | None = None
        if style == "auto" and self._stream.isatty():
            self._start_live()

    def update(self, step: int, values: Mapping[str, float], *, rate: float, seconds_left: float | None = None) -> None:
        """Show where the run stands.

        Args:
            step: steps done.
            values: what to show, for example the loss.
            rate: units a second.
            seconds_left: None: from the steps since the start.
        """
        if self._silent:
            return
        if seconds_left is None:
            done = max(step - self._start, 1)
            seconds_left = (time.monotonic() - self._began) / done * (self._total - step)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        text = f"{shown}  {rate:,.0f} {self._unit}/s  {duration(seconds_left)} left"
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=step, text=text, refresh=True)
        else:
            print(f"step {step}/{self._total}  {text}", file=self._stream, flush=True)

    def message(self, text: str) -> None:
        """A line of its own, above a live one; also when the style is "none"."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state standing. May be called twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_live(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        # Drawn by `update`: a thread that refreshes would take the interpreter from the training.
        self._live = Progress(*columns, console=Console(file=self._stream), auto_refresh=False)
        self._task = self._live.add_task("", total=self._total, completed=self._start, text="")
        self._live.start()


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` in one step.

    Raises:
        ValueError: when one of `SUMMARY_KEYS` is missing.
        OSError: when it cannot be written.
    """
    missing = [key for key in SUMMARY_KEYS if key not in summary]
    if missing:
        raise ValueError(f"summary: {', '.join(missing)} missing; every summary has {', '.join(SUMMARY_KEYS)}.")
    write_json_atomic(path, dict(summary))


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss.

    Example:
        >>> duration(59.6), duration(3725)
        ('1:00', '1:02:05')
    """
    whole = max(round(seconds), 0)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


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


def _scalars(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(f"{prefix}{name}/", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found
