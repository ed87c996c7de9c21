"""Progress in a Jupyter notebook: a bar and the curve of the loss, as HTML that is replaced in place."""

from __future__ import annotations

import html
import math
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NotebookBar", "curve", "in_notebook"]

_WIDTH, _HEIGHT = 480, 120
_MOST_POINTS = 400
_INTERVAL = 0.5  # seconds between two updates, each of which is a message to the browser
_COLOURS = ("#3f88c5", "#e07a1f")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


class NotebookBar:
    """A bar, a line of text, and the curves of the training and the held-out loss.

    Args:
        total: how many steps the run has.
        start: steps done before.

    Attributes:
        room: for text, in characters.
    """

    room = math.inf

    def __init__(self, total: int, start: int) -> None:
        from IPython.display import HTML, display

        self._html, self._total = HTML, total
        self._step, self._text, self._messages = start, "", list[str]()
        self._training: list[tuple[int, float]] = []
        self._held_out: list[tuple[int, float]] = []
        self._shown = time.monotonic()
        self._handle: Any = display(HTML(self._page()), display_id=True)

    def show(self, step: int, loss: float, text: str) -> None:
        """Where the run is; drawn at most twice a second."""
        self._step, self._text = step, text
        self._training.append((step, loss))
        if len(self._training) > 2 * _MOST_POINTS:
            self._training = self._training[::2]
        if time.monotonic() - self._shown >= _INTERVAL:
            self._draw()

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The results of an evaluation."""
        self._held_out.append((step, metrics["loss"]))

    def message(self, text: str) -> None:
        """A line under the curve."""
        self._messages = [*self._messages[-9:], text]
        self._draw()

    def close(self) -> None:
        """Leave the last state in the notebook."""
        self._draw()

    def _draw(self) -> None:
        self._shown = time.monotonic()
        self._handle.update(self._html(self._page()))

    def _page(self) -> str:
        lines = "".join(f"<div>{html.escape(text)}</div>" for text in self._messages)
        return (
            f'<div><progress value="{self._step}" max="{self._total}" style="width: {_WIDTH}px"></progress> '
            f"step {self._step}/{self._total}</div><div>{html.escape(self._text)}</div>"
            f"{curve([('training loss', self._training), ('held-out loss', self._held_out)])}{lines}"
        )


def curve(series: Sequence[tuple[str, Sequence[tuple[int, float]]]]) -> str:
    """Named series of (step, value) as an SVG; "" before any has two finite values."""
    finite = [(name, [(x, y) for x, y in points if math.isfinite(y)]) for name, points in series]
    drawn = [(number, name, points) for number, (name, points) in enumerate(finite) if len(points) > 1]
    if not drawn:
        return ""
    xs = [x for _, _, points in drawn for x, _ in points]
    ys = [y for _, _, points in drawn for _, y in points]
    left, low, high = min(xs), min(ys), max(ys)
    across, up = (_WIDTH - 70) / max(max(xs) - left, 1), (_HEIGHT - 20) / max(high - low, 1e-300)

    def path(points: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{60 + (x - left) * across:.1f},{_HEIGHT - 10 - (y - low) * up:.1f}" for x, y in points)

    lines = "".join(
        f'<polyline fill="none" stroke="{_COLOURS[number]}" stroke-width="1.5" points="{path(points)}">'
        f"<title>{html.escape(name)}</title></polyline>"
        for number, name, points in drawn
    )
    ticks = "".join(
        f'<text x="54" y="{y}" text-anchor="end" font-size="10" fill="currentColor">{value:.4g}</text>'
        for y, value in ((14, high), (_HEIGHT - 8, low))
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">{ticks}{lines}</svg>'
