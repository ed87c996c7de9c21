"""The parts of the page that are text and tables, as HTML. Everything that comes from a run is escaped here."""

from __future__ import annotations

import html
import json
import shlex
from typing import TYPE_CHECKING, Any

from allgrad.train.loggers.progress import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from allgrad.report.run_files import RunFiles

__all__ = ["comparison", "differences", "failure", "heading", "numbers", "reproduction", "section"]


def section(title: str, content: str) -> str:
    """A heading and what belongs under it."""
    return f"<section>\n<h2>{html.escape(title)}</h2>\n{content}\n</section>"


def heading(runs: Sequence[RunFiles]) -> str:
    """The name of the run, or how many runs there are, and their states."""
    if len(runs) > 1:
        return f"<h1>{len(runs)} runs</h1>"
    run = runs[0]
    return f"<h1>{html.escape(run.name)} {_badge(run)}</h1>\n<p class='quiet'>{html.escape(_where(run))}</p>"


def failure(run: RunFiles) -> str:
    """Where and why a run failed; "" if it did not."""
    if not run.failure or run.state != "failed":
        return ""
    text = run.failure.strip()
    lines = text.splitlines()
    where = lines[0].removeprefix("allgrad: ").partition("Traceback")[0] if len(lines) > 1 else ""
    sentence = f"{where}{lines[-1]} The last report is of step {run.steps}."
    return section(
        f"Why {run.name} failed",
        f"<p>{html.escape(sentence)}</p>\n<pre class='failure'>{html.escape(text)}</pre>\n"
        f"<p>Continue it from its newest checkpoint with <code>allgrad resume {html.escape(_quoted(run))}</code>.</p>",
    )


def numbers(run: RunFiles) -> str:
    """The key figures of one run."""
    cells = [
        f'<div class="number"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in _key_figures(run).items()
    ]
    skipped = (
        f"<p class='quiet'>{run.unreadable} lines of metrics.jsonl could not be read.</p>" if run.unreadable else ""
    )
    damaged = "".join(f"<p>{html.escape(text)}</p>" for text in run.damaged)
    return f'<div class="numbers">{"".join(cells)}</div>{skipped}{damaged}'


def comparison(runs: Sequence[RunFiles]) -> str:
    """The key figures of several runs, one run per row."""
    figures = [_key_figures(run) for run in runs]
    columns = list(dict.fromkeys(name for one in figures for name in one))
    rows = (
        [f"{html.escape(run.name)} {_badge(run)}", *(html.escape(one.get(name, "")) for name in columns)]
        for run, one in zip(runs, figures, strict=True)
    )
    return section("Results", _table(["run", *columns], rows))


def differences(names: Sequence[str], found: Mapping[str, Sequence[Any]]) -> str:
    """The keys of the configuration in which runs differ."""
    if not found:
        return section("Configuration", "<p>The configurations are the same.</p>")
    rows = ([html.escape(key), *(html.escape(_shown(value)) for value in values)] for key, values in found.items())
    return section("What differs in the configurations", _table(["key", *names], rows))


def reproduction(run: RunFiles, *, closed: bool = False) -> str:
    """Machine, versions, digests, and the commands that repeat the run; `closed`: the table must be opened to be seen."""
    environment = run.provenance.get("environment", {})
    rows = {
        **_machine(run),
        **(environment if isinstance(environment, dict) else {}),
        "data SHA-256": run.provenance.get("data_sha256"),
        "weights SHA-256": run.summary.get("weights_sha256"),
        "same bits at any number of ranks": run.summary.get("same_bits_at_any_rank_count"),
    }
    table = _table(
        [],
        ([html.escape(str(key)), html.escape(_shown(value))] for key, value in rows.items() if value not in (None, "")),
    )
    if closed:
        table = f"<details><summary>Machine and versions</summary>{table}</details>"
    return (
        f"<pre>{html.escape(_commands(run))}</pre>\n{table}\n"
        f"<details><summary>Configuration</summary><pre>{html.escape(run.config_text)}</pre></details>"
    )


def _commands(run: RunFiles) -> str:
    plugins = run.provenance.get("plugins")
    words = ["allgrad", "train", str(run.directory / "config.yaml"), "run.dir=runs/again"]
    ranks = run.summary.get("ranks") or len(run.provenance.get("ranks") or ())
    words[2:2] = ["-n", str(ranks)] if isinstance(ranks, int) and ranks > 1 else []
    words += [word for name in (plugins if isinstance(plugins, dict) else {}) for word in ("--plugin", name)]
    lines = [shlex.join(words)]
    if digest := run.summary.get("weights_sha256"):
        lines += ["allgrad digest runs/again", f"# weights sha256 {digest}"]
    return "\n".join(lines)


def _machine(run: RunFiles) -> dict[str, Any]:
    ranks = run.provenance.get("ranks")
    if not isinstance(ranks, list) or not all(isinstance(one, dict) for one in ranks):
        return {}
    hosts = {str(one.get("host")): one for one in ranks}
    described = (
        f"{host} ({one.get('cores')} cores, {(one.get('memory_bytes') or 0) / 1e9:.0f} GB)"
        for host, one in hosts.items()
    )
    return {"started": run.provenance.get("started"), "ranks": len(ranks), "hosts": ", ".join(described)}


def _key_figures(run: RunFiles) -> dict[str, str]:
    planned, summary = run.planned_steps, run.summary
    found = {"steps": f"{run.steps:,}" + (f" of {planned:,}" if planned and planned != run.steps else "")}
    losses = [line["loss"] for line in run.training if isinstance(line.get("loss"), int | float)]
    if losses:
        found["training loss"] = f"{losses[-1]:.5g}"
    if run.evaluations:
        last = run.evaluations[-1]["eval"]
        found |= {f"held-out {name}": f"{value:.5g}" for name, value in last.items() if isinstance(value, int | float)}
    rates = sorted(line["rate"] for line in run.training if isinstance(line.get("rate"), int | float))
    if rates:
        found["per second (median)"] = f"{rates[len(rates) // 2]:,.0f}"
    seconds = summary.get("seconds", (run.training[-1:] or [{}])[0].get("seconds"))
    if isinstance(seconds, int | float):
        found["h:mm:ss"] = duration(seconds)
    left = (run.training[-1:] or [{}])[0].get("seconds_left")
    if run.state == "running" and isinstance(left, int | float):
        found["left"] = duration(left)
    if isinstance(hidden := summary.get("comm_hidden_fraction"), int | float):
        found["communication hidden"] = f"{100 * hidden:.0f} %"
    if isinstance(peaks := summary.get("peak_memory_bytes"), list) and peaks:
        found["peak memory of a rank"] = f"{max(peaks) / 1e6:,.0f} MB"
    if isinstance(ranks := summary.get("ranks"), int):
        found["ranks"] = f"{ranks}"
    if isinstance(parameters := summary.get("parameters"), int):
        found["parameters"] = f"{parameters:,}"
    return found


def _where(run: RunFiles) -> str:
    words = [str(run.directory)]
    if run.owner:
        words.append(f"in use by {run.owner}")
    if run.state == "stopped":
        words.append("it has ended without a summary: stopped by a signal, or killed")
    if reason := run.summary.get("stopped"):
        words.append(f"ended early: {reason}")
    return "; ".join(words)


def _badge(run: RunFiles) -> str:
    return f'<span class="state {run.state}">{run.state}</span>'


def _quoted(run: RunFiles) -> str:
    return shlex.quote(str(run.directory))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells of `rows` are HTML already."""
    top = f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{top}{body}</table></div>'
