"""Modules in a notebook."""

from __future__ import annotations

from xml.etree import ElementTree

from allgrad import nn


def test_the_parts_can_be_opened_and_counted() -> None:
    model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.ReLU(), nn.Sequential(nn.Linear(8, 1, rng=1)))
    page = ElementTree.fromstring(model._repr_html_())
    assert page.tag == "details"
    assert [part.get("open") for part in page.iter("details")] == ["", None]
    text = "".join(page.itertext())
    assert "Sequential() 49 parameters" in text
    assert "0 Linear(4 -> 8) 40 parameters" in text
    assert text.count("parameters") == 4


def test_a_module_without_parts() -> None:
    assert ElementTree.fromstring(nn.ReLU()._repr_html_()).tag == "div"
