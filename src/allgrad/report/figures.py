"""The curves of one or several runs, as figures in plotly's JSON schema: {"data": [...], "layout": {...}}.

A figure may also have "log": whether a switch for a logarithmic axis makes sense, and "height", in pixels.

Colours of axes and backgrounds are missing on purpose: the page sets them for the light and the dark theme (page.js). Every
text that comes from a run is escaped, because plotly draws HTML tags in texts.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from allgrad.report.run_files import RunFiles

__all__ = ["COLOURS", "Figure", "curves", "escaped"]

Figure = dict[str, Any]

COLOURS = ("#3f88c5", "#e07a1f", "#2a9d6f", "#c2549d", "#8a6fd1", "#b58900", "#17a2b8", "#d1495b")
"""Told apart on white and on black, and by most people with a colour deficiency."""

_MOST_POINTS = 2000


def curves(runs: Sequence[RunFiles]) -> dict[str, Figure]:
    """Title -> figure, for everything that the runs have recorded.

    A figure that would be empty is left out.
    """
    found = {"Loss": _loss(runs)}
    for name in _names((run.evaluations for run in runs), "eval"):
        if name != "loss":
            found[f"Held-out {name}"] = _figure(_held_out(runs, name))
    for name in _names((run.training for run in runs), "terms"):
        found[f"Loss term {name}"] = _figure(_training(runs, "terms", name), log=True)
    for title, key, scale, settings in _PLAIN:
        found[title] = _figure(_training(runs, key, scale=scale), **settings)
    return {title: figure for title, figure in found.items() if figure["data"]}


_PLAIN: tuple[tuple[str, str, float, dict[str, Any]], ...] = (
    ("Learning rate", "lr", 1.0, {}),
    ("Gradient norm", "gradient_norm", 1.0, {"log": True}),
    ("Throughput (per second)", "rate", 1.0, {"zero": True}),
    ("Memory of rank 0 (MB)", "memory_bytes", 1e-6, {"zero": True}),
    ("Communication hidden (%)", "comm_hidden_fraction", 100.0, {"zero": True}),
)
"""Title, key in metrics.jsonl, factor, settings of `_figure`."""


def _loss(runs: Sequence[RunFiles]) -> Figure:
    training = _training(runs, "loss")
    held_out = _held_out(runs, "loss")
    if len(runs) == 1:
        for trace, name, colour in ((training, "training", 0), (held_out, "held-out", 1)):
            for each in trace:
                each |= {"name": name, "line": {"color": COLOURS[colour], "width": 2}}
    else:
        for each in training:
            each |= {"name": f"{each['name']}, training", "opacity": 0.45}
        for each in held_out:
            each["name"] += ", held-out"
    return _figure([*training, *held_out], log=True, legend=True)


def _names(runs: Iterable[Sequence[dict[str, Any]]], key: str) -> list[str]:
    """The names in the mappings that lines have under a key, in the order in which they appear."""
    found = (line[key] for lines in runs for line in lines if isinstance(line.get(key), dict))
    return list(dict.fromkeys(name for mapping in found for name in mapping))


def _training(runs: Sequence[RunFiles], *keys: str, scale: float = 1.0) -> list[dict[str, Any]]:
    points = ([(line["step"], _at(line, keys)) for line in run.training] for run in runs)
    return _traces(runs, points, scale, mode="lines")


def _held_out(runs: Sequence[RunFiles], name: str) -> list[dict[str, Any]]:
    points = ([(line["step"], line["eval"].get(name)) for line in run.evaluations] for run in runs)
    return _traces(runs, points, 1.0, mode="lines+markers")


def _at(line: Any, keys: Sequence[str]) -> Any:
    """A value in nested mappings; None if it is missing."""
    for key in keys:
        line = line.get(key) if isinstance(line, dict) else None
    return line


def _traces(
    runs: Sequence[RunFiles], points: Iterable[list[tuple[int, Any]]], scale: float, *, mode: str
) -> list[dict[str, Any]]:
    traces = []
    for number, (run, given) in enumerate(zip(runs, points, strict=True)):
        usable = [(step, y * scale) for step, y in given if isinstance(y, int | float) and not isinstance(y, bool)]
        thinned = _thinned(usable)
        if thinned:
            traces.append(
                {
                    "type": "scatter",
                    "mode": mode,
                    "name": escaped(run.name),
                    "x": [step for step, _ in thinned],
                    "y": [y if math.isfinite(y) else None for _, y in thinned],
                    "line": {"color": COLOURS[number % len(COLOURS)], "width": 2},
                    "marker": {"size": 5},
                    "hovertemplate": "step %{x}<br>%{y:.6g}",
                }
            )
    return traces


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most `_MOST_POINTS` points with the same outline: the lowest and the highest of each stretch.

    >>> len(_thinned([(step, float(step % 7)) for step in range(100_000)])) <= _MOST_POINTS
    True
    """
    if len(points) <= _MOST_POINTS:
        return points
    stretch = -(-2 * len(points) // _MOST_POINTS)
    kept: list[tuple[int, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def _figure(
    traces: list[dict[str, Any]], *, log: bool = False, zero: bool = False, legend: bool | None = None
) -> Figure:
    """A chart over the steps; `log`: a switch for a logarithmic axis; `zero`: the axis starts at 0."""
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": {"rangemode": "tozero" if zero else "normal"},
        "hovermode": "x unified",
        "showlegend": len(traces) > 1 if legend is None else legend,
    }
    values = [y for trace in traces for y in trace["y"] if y is not None]
    return {"data": traces, "layout": layout, "log": log and bool(values) and min(values) > 0}


def escaped(text: Any) -> str:
    """A text in which plotly sees no tags.

    >>> escaped("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    return html.escape(str(text), quote=False)
