"""The page itself: one HTML file that needs no network, and in which nothing that a run says can run.

A run's texts (names, paths, configuration, errors) are escaped. Beyond that, the page carries a content security policy: it
allows the two scripts that are written here, named by their SHA-256, and no request to anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.errors import UsageError
from allgrad.report import sections
from allgrad.report.figures import curves
from allgrad.report.run_files import configuration_differences, read_run, short_names
from allgrad.report.timeline import step_timeline
from allgrad.train.atomic import json_safe, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.report.figures import Figure
    from allgrad.report.held_out import HeldOut
    from allgrad.report.run_files import RunFiles

__all__ = ["Report", "write_report"]

_HEIGHT = 300  # of a figure, in pixels, unless it has one of its own


@dataclass
class Report:
    """What a page shows.

    Attributes:
        runs: in the order given; their names differ.
        held_out: for each run, its evaluation, or the reason why it has none; empty if nobody asked for evaluations.
    """

    runs: list[RunFiles]
    held_out: list[HeldOut | str] = field(default_factory=list)

    def html(self) -> str:
        """The page.

        Raises:
            UsageError: plotly is not installed.
        """
        drawing = _Drawing()
        body = "\n".join(self._body(drawing))
        library, script = _plotly(), _resource("page.js")
        hashes = " ".join(f"'sha256-{_digest(text)}'" for text in (library, script))
        policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"
        title = html.escape(", ".join(run.name for run in self.runs))
        return (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_resource('page.css')}</style>\n</head>\n<body>\n<main>\n{body}\n"
            f'</main>\n<script type="application/json" id="figures">{drawing.json()}</script>\n'
            f"<script>{library}</script>\n<script>{script}</script>\n</body>\n</html>\n"
        )

    def _body(self, drawing: _Drawing) -> list[str]:
        runs = self.runs
        parts = [sections.heading(runs), *(sections.failure(run) for run in runs)]
        parts.append(sections.numbers(runs[0]) if len(runs) == 1 else sections.comparison(runs))
        if len(runs) > 1:
            parts.append(sections.differences([run.name for run in runs], configuration_differences(runs)))
        parts.append(sections.section("Curves", drawing.grid(curves(runs)) or "<p>Nothing has been recorded yet.</p>"))
        about = [(run, f": {run.name}" if len(runs) > 1 else "") for run in runs]
        parts += [sections.section(f"One step on every rank{of}", _timeline(run, drawing)) for run, of in about]
        if self.held_out:
            parts.append(sections.section("Held-out data", _held_out(runs, self.held_out, drawing)))
        parts += [
            sections.section(f"To repeat it{of}", sections.reproduction(run, closed=len(runs) > 1)) for run, of in about
        ]
        return [part for part in parts if part]


class _Drawing:
    """Collects the figures of a page, and gives each the place where it is drawn."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def card(self, title: str, figure: Figure) -> str:
        """A titled box in which a figure will be drawn."""
        name = f"figure-{len(self._figures)}"
        self._figures[name] = figure
        switch = f'<button data-log="{name}" aria-pressed="false">log</button>' if figure.get("log") else ""
        place = f'<div class="chart" id="{name}" style="height: {figure.get("height", _HEIGHT)}px"></div>'
        return f'<div class="card"><h3>{html.escape(title)}{switch}</h3>{place}</div>'

    def grid(self, figures: dict[str, Figure]) -> str:
        """A card for each figure; "" without figures."""
        cards = [self.card(title, figure) for title, figure in figures.items()]
        return f'<div class="grid">{"".join(cards)}</div>' if cards else ""

    def json(self) -> str:
        """All of them, in a form that cannot end the script element that holds it."""
        return json.dumps(json_safe(self._figures), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _timeline(run: RunFiles, drawing: _Drawing) -> str:
    found = step_timeline(run.trace)
    if found is None:
        directory = html.escape(str(run.directory))
        return (
            f'<p class="quiet">No step was traced. Start a run with <code>logging.trace=true</code>, or trace one that runs '
            f"with <code>allgrad trace {directory}</code>.</p>"
        )
    step, figure = found
    return (
        '<p class="quiet">The step whose duration is the median of those traced. All ranks are on the clock of rank 0. '
        "trace.json has every traced step, for ui.perfetto.dev or chrome://tracing.</p>"
        + drawing.card(f"Step {step}", figure)
    )


def _held_out(runs: Sequence[RunFiles], results: Sequence[HeldOut | str], drawing: _Drawing) -> str:
    """A sentence for each run, and the figures of all of them beside each other."""
    sentences: list[str] = []
    figures: dict[str, Figure] = {}
    for run, found in zip(runs, results, strict=True):
        of = f"{run.name}: " if len(runs) > 1 else ""
        if isinstance(found, str):
            sentences.append(f"{of}There is no evaluation: {found}")
            continue
        numbers = {name: value for name, value in found.metrics.items() if isinstance(value, float)}
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
        weights = f"with the weights of the checkpoint after {found.step} steps"
        sentences.append(f"{of}{found.samples:,} samples, {weights}: {metrics}.")
        figures |= {of + title: figure for title, figure in found.figures.items()}
    return "".join(f"<p>{html.escape(text)}</p>" for text in sentences) + drawing.grid(figures)


def write_report(
    directories: Sequence[str | Path],
    path: str | Path | None = None,
    *,
    evaluate: bool = True,
    best: bool = False,
    plugins: Sequence[str | Path] = (),
) -> Path:
    """Write the page of one or several runs; returns its path.

    Args:
        directories: of the runs.
        path: of the page. By default `report.html`, in the run's directory, or for several runs in the working directory.
        evaluate: compute predictions on the held-out data, in this process.
        best: for that, use the checkpoint with the best metric instead of the newest.
        plugins: what registered the runs' own components; needed for the evaluation only.

    Raises:
        UsageError: plotly is not installed, or the page's directory does not exist.
        RunDirectoryError: a directory is not a run's.
        OSError: the page cannot be written.

    Example:
        >>> write_report(["runs/moby"])  # doctest: +SKIP
        PosixPath('runs/moby/report.html')
    """
    if path is not None and not Path(path).parent.is_dir():
        raise UsageError(f"-o {path}: there is no directory {Path(path).parent}.")
    read = [read_run(directory) for directory in directories]
    _plotly()  # before an evaluation that may take long
    runs = [replace(run, name=name) for run, name in zip(read, short_names(read), strict=True)]
    report = Report(runs, [_evaluated(run, best=best, plugins=plugins) for run in runs] if evaluate else [])
    place = Path(path) if path is not None else (runs[0].directory if len(runs) == 1 else Path()) / "report.html"
    write_atomic(place, report.html().encode())
    return place


def _evaluated(run: RunFiles, *, best: bool, plugins: Sequence[str | Path]) -> HeldOut | str:
    """The evaluation of a run, or the reason why it has none. An error in it must not cost the rest of the page."""
    from allgrad.report.held_out import evaluate_held_out

    try:
        return evaluate_held_out(run.directory, best=best, plugins=plugins)
    except Exception as error:
        return str(error) or type(error).__name__


def _plotly() -> str:
    """The drawing library, as one script.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError(
            "The report needs the package plotly, which is not installed. Run `pip install allgrad[report]`."
        ) from error
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
