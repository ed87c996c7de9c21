"""The progress line of a run on the terminal or in a log file."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from rich.progress import Progress, TaskID

__all__ = ["ProgressLine", "duration"]


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
