"""The page, parsed as a reader's program would, without a browser."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allgrad.cli.main import main
from allgrad.errors import UsageError
from allgrad.report import write_report
from allgrad.report.held_out import confusion
from allgrad.report.timeline import step_timeline

if TYPE_CHECKING:
    from pathlib import Path

plotly = pytest.importorskip("plotly.graph_objects", reason="the report needs plotly (allgrad[report])")


FAILURE = """\
allgrad: rank 1 of 2 on node2 failed. Traceback (most recent call last):
  File "x.py", line 3, in <b>load</b>
ValueError: no more data
"""


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.source = path.read_text()
        self.feed(self.source)
        self.figures = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag) -> None:
        self._inside = ""

    def handle_data(self, data) -> None:
        (self.scripts if self._inside == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def places(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.tags if attributes.get("class") == "chart"]


@pytest.fixture(scope="module")
def page(values_run, tmp_path_factory) -> Page:
    return Page(write_report([values_run], tmp_path_factory.mktemp("page") / "page.html"))


def test_every_figure_has_its_place_and_is_one_that_plotly_accepts(page) -> None:
    assert page.places() == list(page.figures)
    for figure in page.figures.values():
        plotly.Figure(data=figure["data"], layout=figure["layout"])
    titles = [text for text in page.texts if text.strip()]
    for title in ("Loss", "Held-out rmse", "Held-out r2", "Learning rate", "Gradient norm", "Throughput (per second)"):
        assert title in titles


def test_the_curves_are_the_run(page, values_run) -> None:
    lines = [json.loads(line) for line in (values_run / "metrics.jsonl").read_text().splitlines()]
    training, held_out = page.figures["figure-0"]["data"]
    assert training["y"] == [line["loss"] for line in lines if "loss" in line]
    assert held_out["y"] == [line["eval"]["loss"] for line in lines if "eval" in line]
    assert held_out["x"] == [10, 20, 30]


def test_nothing_is_fetched_from_anywhere(page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
        assert not {"src", "href", "srcset", "action", "onload", "onclick"} & set(attributes)
    assert "url(" not in page.source.partition("</style>")[0]
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in re.search("script-src [^;]*", policy)[0]
    assert page.source.count("Plotly.newPlot(") == 1  # in our script; and the library once
    assert len(page.source) < 6_000_000


def test_it_says_how_to_repeat_the_run(page, values_run) -> None:
    summary = json.loads((values_run / "summary.json").read_text())
    assert f"allgrad train {values_run}/config.yaml run.dir=runs/again" in page.text
    assert f"# weights sha256 {summary['weights_sha256']}" in page.text
    assert summary["data_sha256"] in page.text
    for word in ("NumPy", "CPU", "complete", "weight_decay:"):
        assert word in page.text


def test_predicted_against_true_are_the_evaluation(page, values_run) -> None:
    dots, diagonal = list(page.figures.values())[-1]["data"]
    error = np.array(dots["x"]) - np.array(dots["y"])
    last = json.loads((values_run / "metrics.jsonl").read_text().splitlines()[-1])["eval"]
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), last["rmse"], rtol=1e-6)
    assert diagonal["x"] == diagonal["y"]
    assert "18 samples, with the weights of the checkpoint after 30 steps" in page.text


def test_names_cannot_become_tags(values_run, classes_run, tmp_path) -> None:
    page = Page(write_report([classes_run, values_run], tmp_path / "page.html"))
    assert [tag for tag, _ in page.tags].count("script") == 3  # the figures, the library, ours
    assert "<script>alert" not in page.source
    assert "<script>alert(1)<script>" in page.text  # as a text, where names are shown
    names = {trace["name"] for trace in page.figures["figure-0"]["data"]}
    assert "&lt;script&gt;alert(1)&lt;script&gt;, training" in names


def test_several_runs_are_laid_over_each_other(values_run, classes_run, tmp_path) -> None:
    page = Page(write_report([values_run, classes_run], tmp_path / "page.html", evaluate=False))
    assert len(page.figures["figure-0"]["data"]) == 4
    assert "What differs in the configurations" in page.text
    assert "data.task" in page.text
    assert "Held-out data" not in page.text


def test_a_confusion_matrix(classes_run, tmp_path) -> None:
    page = Page(write_report([classes_run], tmp_path / "page.html", best=True))
    (heatmap,) = list(page.figures.values())[-1]["data"]
    counts = np.array(heatmap["customdata"])
    evaluations = [
        json.loads(line) for line in (classes_run / "metrics.jsonl").read_text().splitlines() if "eval" in line
    ]
    best = min(evaluations, key=lambda line: line["eval"]["loss"])
    assert counts.sum() == 18
    np.testing.assert_allclose(np.trace(counts) / 18, best["eval"]["accuracy"])
    assert f"after {best['step']} steps" in page.text


def test_of_many_classes_the_most_frequent_are_shown() -> None:
    rng = np.random.default_rng(0)
    true = np.concatenate([np.repeat(np.arange(50), 2), rng.integers(50, 90, 4000)])
    figure = confusion(true, true, [str(number) for number in range(90)])
    (heatmap,) = figure["data"]
    assert figure["layout"]["xaxis"]["ticktext"] == [str(number) for number in range(50, 90)]
    assert np.array(heatmap["customdata"]).sum() == 4000
    assert "text" not in heatmap


def test_what_cannot_be_evaluated_costs_nothing_else(values_run, tmp_path) -> None:
    shutil.copytree(values_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    page = Page(write_report([tmp_path / "run"]))
    assert "There is no evaluation" in page.text
    assert "no checkpoint yet" in page.text
    assert (tmp_path / "run" / "report.html").exists()


def test_a_failed_run_says_where_and_why(values_run, tmp_path) -> None:
    shutil.copytree(values_run, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "failure.txt").write_text(FAILURE)
    page = Page(write_report([tmp_path / "run"], evaluate=False))
    assert "Why values failed" in page.texts
    assert "rank 1 of 2 on node2 failed. ValueError: no more data The last report is of step 30." in page.text
    assert "in <b>load</b>" in page.text


def test_the_timeline_is_a_step_of_the_trace(page, values_run) -> None:
    events = json.loads((values_run / "trace.json").read_text())["traceEvents"]
    step, figure = step_timeline(events)
    assert 1 <= step <= 3  # not the first, in which kernels may be compiled
    assert figure["layout"]["yaxis"]["categoryarray"] == ["rank 0"]
    bars = {trace["name"]: trace for trace in figure["data"]}
    assert {"forward", "backward", "update", "load"} <= set(bars)
    assert len(bars["forward"]["x"]) == len(bars["backward"]["x"]) in (1, 4)  # one per batch or virtual worker
    for trace in figure["data"]:
        assert min(trace["base"]) >= 0
    assert f"Step {step}" in page.texts
    assert step_timeline([]) is None
    assert step_timeline([{"ph": "X", "cat": "step", "args": {"step": "no"}}]) is None


def test_without_plotly_the_message_says_what_to_install(values_run, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UsageError, match=r"Run `pip install allgrad\[report\]`"):
        write_report([values_run], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command(values_run, tmp_path, capsys) -> None:
    path = tmp_path / "page.html"
    assert main(["report", str(values_run), "-o", str(path), "--no-evaluate"]) == 0
    assert capsys.readouterr().out == f"the report is in {path}\n"
    assert path.stat().st_size > 1_000_000
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run's directory" in capsys.readouterr().err
