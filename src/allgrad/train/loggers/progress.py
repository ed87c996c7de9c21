"""How a run shows its progress: a live bar on a terminal, a bar and a curve in a notebook, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO

from allgrad.train.loggers.base import Logger
from allgrad.train.loggers.notebook import NotebookBar, in_notebook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.progress import Progress

__all__ = ["ProgressLine", "duration"]


class ProgressLine(Logger):
    """Says how far the run is: step, loss, held-out metric, speed, share of the communication that is hidden, time left.

    On a terminal it is a live line (rich), in a notebook a bar with a curve. Elsewhere it is a plain line per report, which suits
    a log file, and evaluations have lines of their own.

    Args:
        total_steps: how many steps the run has.
        start: steps done before (after a resume).
        unit: what `rate` counts, for example "tokens".
        style: "auto" (live where that is possible), "plain", or "none" (messages only).
        monitor: the metric of evaluations that a live display shows.
        stream: where to write; standard output by default.

    Example:
        >>> import sys
        >>> line = ProgressLine(200, unit="tokens", style="plain", stream=sys.stdout)
        >>> line.log(50, {"loss": 2.5, "rate": 12345.6, "comm_hidden_fraction": 0.93, "seconds_left": 61})
        step 50/200  loss 2.5000  12,346 tokens/s  93% hidden  1:01 left
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start: int = 0,
        unit: str = "samples",
        style: Literal["auto", "plain", "none"] = "auto",
        monitor: str = "loss",
        stream: TextIO | None = None,
    ) -> None:
        self._total, self._unit, self._monitor = total_steps, unit, monitor
        self._stream = stream if stream is not None else sys.stdout
        self._silent = style == "none"
        self._held_out = ""
        self._live: _LiveLine | NotebookBar | None = None
        if style == "auto" and stream is None and in_notebook():
            self._live = NotebookBar(total_steps, start)
        elif style == "auto" and self._stream.isatty() and "OMPI_COMM_WORLD_RANK" not in os.environ:
            # Open MPI gives rank 0 a terminal of its own, wherever the output of mpirun goes.
            self._live = _LiveLine(total_steps, start, self._stream)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Show where the run is; an evaluation gets a line of its own."""
        if "eval" in values:
            numbers = {name: value for name, value in values["eval"].items() if not isinstance(value, list)}
            shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            self.message(f"evaluation after {step} steps: {shown}")
            if self._monitor in values["eval"]:
                self._held_out = f"held-out {self._monitor} {values['eval'][self._monitor]:.4f}"
            if self._live is not None:
                self._live.evaluated(step, values["eval"])
        if "loss" not in values or self._silent:
            return
        if self._live is None:
            print(f"step {step}/{self._total}  {self._text(values)}", file=self._stream, flush=True)
        else:
            self.tick(step, values)

    def tick(self, step: int, values: Mapping[str, Any]) -> None:
        if self._live is not None:
            self._live.show(step, values["loss"], self._text(values, self._held_out, self._live.room))

    def message(self, text: str) -> None:
        """A line of its own, above a live one; also when the style is "none"."""
        if self._live is not None:
            self._live.message(text)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen. May be called twice."""
        if self._live is not None:
            self._live.close()
            self._live = None

    def _text(self, values: Mapping[str, Any], held_out: str = "", room: float = math.inf) -> str:
        """The values in words; in `room` characters, without those that matter least if they do not fit."""
        hidden, left = values.get("comm_hidden_fraction"), values.get("seconds_left")
        parts = [
            f"loss {values['loss']:.4f}",
            held_out,
            f"{values['rate']:,.0f} {self._unit}/s",
            "" if hidden is None else f"{hidden:.0%} hidden",
            "" if left is None else f"{duration(left)} left",
        ]
        for least in (3, 2, 1):
            if sum(len(part) + 2 for part in parts if part) > room:
                parts[least] = ""
        return "  ".join(part for part in parts if part)


class _LiveLine:
    """A line of a terminal that is drawn again and again.

    Attributes:
        room: for text, in characters.
    """

    room: float

    def __init__(self, total: int, start: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(file=stream)
        bar = 16 if console.width >= 100 else 6
        self.room = console.width - len(f"step {total}/{total} ") - bar - 1
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=bar),
            TextColumn("{task.fields[text]}"),
        )
        # Drawn by `show`: a thread that refreshes would take the interpreter from the training.
        self._progress: Progress = Progress(*columns, console=console, auto_refresh=False)
        self._task = self._progress.add_task("", total=total, completed=start, text="")
        self._progress.start()

    def show(self, step: int, loss: float, text: str) -> None:  # noqa: ARG002 - the text has the loss
        self._progress.update(self._task, completed=step, text=text, refresh=True)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


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
