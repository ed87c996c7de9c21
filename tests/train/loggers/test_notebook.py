"""Progress in a notebook: HTML without escape codes, replaced in place."""

from __future__ import annotations

import sys
import types
from xml.etree import ElementTree

import pytest

from allgrad.train.loggers.notebook import curve, in_notebook
from allgrad.train.loggers.progress import ProgressLine


class HTML:
    def __init__(self, text: str) -> None:
        self.text = text


class ZMQInteractiveShell:
    pass


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    """What a notebook that runs this process shows, one text for each update."""
    pages: list[str] = []

    class Handle:
        def update(self, page: HTML) -> None:
            pages.append(page.text)

    def display(page: HTML, *, display_id: bool) -> Handle:
        assert display_id
        pages.append(page.text)
        return Handle()

    module = types.ModuleType("IPython")
    module.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    displays = types.ModuleType("IPython.display")
    displays.HTML, displays.display = HTML, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    return pages


def test_a_bar_and_a_curve(shown, capsys, monkeypatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("allgrad.train.loggers.notebook.time.monotonic", lambda: next(clock))
    line = ProgressLine(100, unit="tokens")
    for step in (10, 20, 30):
        line.log(step, {"loss": 1.0 / step, "rate": 10.0, "seconds_left": 5})
    line.log(30, {"eval": {"loss": 0.5}})
    line.log(40, {"eval": {"loss": 0.4}})
    line.message("<saved>")
    line.close()
    assert capsys.readouterr().out == ""
    page = ElementTree.fromstring(f"<div>{shown[-1]}</div>")
    bar = page.find(".//progress")
    assert (bar.get("value"), bar.get("max")) == ("30", "100")
    text = "".join(page.itertext())
    assert "loss 0.0333  10 tokens/s  0:05 left" in text
    assert "<saved>" in text
    assert "evaluation after 40 steps: loss 0.4000" in text
    lines = page.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [len(line.get("points").split()) for line in lines] == [3, 2]
    assert "\x1b" not in "".join(shown)


def test_a_curve_of_what_is_not_finite() -> None:
    assert curve([("loss", [(1, float("nan")), (2, 1.0)])]) == ""
    drawn = ElementTree.fromstring(curve([("loss", [(1, 2.0), (2, float("inf")), (3, 2.0)])]))
    assert len(drawn.find("{http://www.w3.org/2000/svg}polyline").get("points").split()) == 2


def test_a_terminal_is_no_notebook() -> None:
    assert not in_notebook()


def test_the_curve_of_a_long_run_stays_short(shown) -> None:
    line = ProgressLine(10_000)
    for step in range(10_000):
        line.tick(step, {"loss": 1.0, "rate": 1.0})
    line.close()
    assert len(shown[-1]) < 20_000
