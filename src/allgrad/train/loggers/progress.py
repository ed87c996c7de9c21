"""The progress line of a run on the terminal or in a log file."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal, TextIO

from allgrad.train.loggers.base import Logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.progress import Progress, TaskID

__all__ = ["ProgressLine", "duration"]


class ProgressLine(Logger):
    """One line that says how far the run is: step, loss, speed, time left.

    On a terminal it is a live line (rich); elsewhere it is a plain line per report, which suits a log file.

    Args:
        total_steps: how many steps the run has.
        start: steps done before (after a resume).
        unit: what `rate` counts, for example "tokens".
        style: "auto" (live on a terminal), "plain", or "none" (messages only).
        stream: where to write; standard output by default.

    Example:
        >>> import sys
        >>> line = ProgressLine(200, unit="tokens", style="plain", stream=sys.stdout)
        >>> line.log(50, {"loss": 2.5, "rate": 12345.6, "seconds_left": 61})
        step 50/200  loss 2.5000  12,346 tokens/s  1:01 left
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start: int = 0,
        unit: str = "samples",
        style: Literal["auto", "plain", "none"] = "auto",
        stream: TextIO | None = None,
    ) -> None:
        self._total = total_steps
        self._start = start
        self._unit = unit
        self._stream = stream if stream is not None else sys.stdout
        self._silent = style == "none"
        self._began = time.monotonic()
        self._live: Progress | None = None
        self._task: TaskID | None = None
        if style == "auto" and self._stream.isatty():
            self._start_live()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Show where the run is; an evaluation gets a line of its own."""
        if "eval" in values:
            numbers = {name: value for name, value in values["eval"].items() if not isinstance(value, list)}
            shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            self.message(f"evaluation after {step} steps: {shown}")
        if "loss" not in values or self._silent:
            return
        done = max(step - self._start, 1)
        left = values.get("seconds_left", (time.monotonic() - self._began) / done * (self._total - step))
        text = f"loss {values['loss']:.4f}  {values['rate']:,.0f} {self._unit}/s  {duration(left)} left"
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

    def rewind(self, step: int) -> None:
        self._start, self._began = step, time.monotonic()

    def close(self) -> None:
        """Leave the last state on the screen. May be called twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _start_live(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        # Drawn by `log`: a thread that refreshes would take the interpreter from the training.
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
