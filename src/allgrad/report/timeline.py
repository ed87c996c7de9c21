"""One step on every rank, as a figure: what each rank computed, and which buckets of gradients moved meanwhile.

The events are those of `trace.json` (train/loggers/trace.py). The part of a bucket that falls into its rank's wait is exposed
communication; the rest is hidden behind computation.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from allgrad.report.figures import escaped
from allgrad.train.loggers.trace import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.report.figures import Figure

__all__ = ["step_timeline"]

_MOST_RANKS = 16
_LANE, _AXES = 26, 120  # pixels

_COLOURS = {
    "load": "#8d99a6",
    "forward": "#3f88c5",
    "backward": "#2a5f8f",
    "update": "#8a6fd1",
    "wait": "#d1495b",
    "communication, hidden": "#2a9d6f",
    "communication, exposed": "#e07a1f",
    "evaluation": "#b58900",
    "checkpoint": "#6b7780",
}
_DRAWN = ("load", "forward", "backward", "update", "wait", "bucket")


def step_timeline(events: Sequence[dict[str, Any]]) -> tuple[int, Figure] | None:
    """The figure of a typical step: the one whose duration on rank 0 is the median of those traced.

    The first traced step is left out if there are others: caches are cold there, and kernels may be compiled.

    Args:
        events: the trace's, already known to be mappings.

    Returns:
        The step and its figure; None if no step was traced.
    """
    spans = [event for event in events if _is_span(event)]
    durations = {e["args"]["step"]: e["dur"] for e in spans if e["cat"] == "step" and e["pid"] == 0}
    if not durations:
        return None
    usual = dict(list(durations.items())[1:]) or durations
    middle = median(usual.values())
    step = min(usual, key=lambda number: abs(usual[number] - middle))
    shown = [e for e in spans if e["args"]["step"] == step and e["cat"] in _DRAWN and e["pid"] < _MOST_RANKS]
    whole = [e for e in spans if e["args"]["step"] == step and e["cat"] == "step" and e["pid"] < _MOST_RANKS]
    origin = min(e["ts"] for e in whole)
    lanes = {lane: _label(*lane) for lane in sorted({(e["pid"], e["tid"]) for e in shown})}
    bars: dict[str, list[dict[str, Any]]] = {name: [] for name in _COLOURS}
    for event in shown:
        for kind, start, end in _parts(event, shown):
            bars[kind].append(_bar(event, lanes[event["pid"], event["tid"]], start - origin, end - origin))
    traces = [_trace(kind, bars[kind]) for kind in _COLOURS if bars[kind]]
    layout = {
        "barmode": "overlay",
        "bargap": 0.25,
        "xaxis": {"title": {"text": "milliseconds"}},
        "yaxis": {"categoryorder": "array", "categoryarray": list(lanes.values()), "autorange": "reversed"},
        "hovermode": "closest",
        "showlegend": True,
    }
    return step, {"data": traces, "layout": layout, "height": _AXES + _LANE * len(lanes)}


def _is_span(event: dict[str, Any]) -> bool:
    """Whether an event is a span of this program's; a trace may have been edited by hand."""
    if event.get("ph") != "X" or not isinstance(event.get("args"), dict) or not isinstance(event.get("cat"), str):
        return False
    numbers = (event.get("ts"), event.get("dur"), event.get("pid"), event.get("tid"), event["args"].get("step"))
    return all(isinstance(number, int | float) and number >= 0 for number in numbers)


def _label(rank: int, lane: int) -> str:
    what, number = (" buckets", lane - BUCKETS) if lane >= BUCKETS else ("", lane)
    return f"rank {rank}{what}" + (f" ({number + 1})" if number else "")


def _parts(event: dict[str, Any], others: Sequence[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """An event as (kind, start, end); a bucket in its hidden and its exposed part."""
    start, end = event["ts"], event["ts"] + event["dur"]
    if event["cat"] != "bucket":
        return [(event["cat"], start, end)]
    waits = [e["ts"] for e in others if e["cat"] == "wait" and e["pid"] == event["pid"]]
    border = min(max(min(waits, default=end), start), end)
    parts = [("communication, hidden", start, border), ("communication, exposed", border, end)]
    return [part for part in parts if part[2] > part[1]]


def _bar(event: dict[str, Any], lane: str, start: float, end: float) -> dict[str, Any]:
    size = event["args"].get("bytes")
    what = f"{event.get('name', event['cat'])}" + (f", {size / 1e6:,.2f} MB" if isinstance(size, int) else "")
    return {
        "base": start / 1e3,
        "x": (end - start) / 1e3,
        "y": lane,
        "what": escaped(what),
        "whole": event["dur"] / 1e3,
    }


def _trace(kind: str, bars: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": kind,
        "marker": {"color": _COLOURS[kind]},
        "base": [bar["base"] for bar in bars],
        "x": [bar["x"] for bar in bars],
        "y": [bar["y"] for bar in bars],
        "customdata": [[bar["what"], bar["whole"]] for bar in bars],
        "hovertemplate": "%{customdata[0]}<br>%{customdata[1]:.3f} ms, from %{base:.3f} ms<extra>%{y}</extra>",
    }
