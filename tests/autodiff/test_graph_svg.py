"""The picture of a graph: parsed, and looked at with a ruler: no boxes overlap, edges go down, everything is inside."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn

SVG = "{http://www.w3.org/2000/svg}"


def small():
    x, w = ag.tensor([1.0, 2.0], requires_grad=True), ag.tensor(3.0, requires_grad=True)
    h = np.sin(x) * w
    loss = np.sum(np.where(np.array([True, False]), h * 2.5, h) ** 2 + x * np.array([1.0, 2.0]))
    return ag.Graph(loss, x=x, w=w), loss


def transformer():
    model = nn.models.GPT(11, context=6, layers=2, width=8, heads=2, rng=0)
    loss = np.mean(model(np.zeros((2, 6), int)))
    return ag.Graph(loss), loss


def chain(length=3000):
    """A deep graph in which every vertex also needs the first one: long edges."""
    x = ag.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(length // 2):
        y = np.sin(y) + x
    return ag.Graph(y), y


def boxes(picture):
    names = ("x", "y", "width", "height")
    return [tuple(float(r.get(name)) for name in names) for r in picture.iter(f"{SVG}rect")]


@pytest.mark.parametrize("make", [small, transformer, chain])
def test_boxes_do_not_overlap_and_are_inside(make) -> None:
    graph, _ = make()
    picture = ElementTree.fromstring(graph.svg())
    found = boxes(picture)
    assert len(found) == len(graph.vertices)
    width, height = float(picture.get("width")), float(picture.get("height"))
    rows: dict[float, list[tuple[float, float]]] = {}
    for x, y, w, h in found:
        assert x >= 0
        assert x + w <= width
        assert y >= 0
        assert y + h <= height
        rows.setdefault(y, []).append((x, x + w))
    for row in rows.values():
        row.sort()
        for (_, end), (start, _) in pairwise(row):
            assert start > end


@pytest.mark.parametrize("make", [small, transformer])
def test_every_edge_goes_down_from_its_parent_to_its_child(make) -> None:
    graph, _ = make()
    picture = ElementTree.fromstring(graph.svg())
    found = boxes(picture)
    paths = [p.get("d") for p in picture.findall(f"{SVG}path")]
    edges = [(parent, child) for child, v in enumerate(graph.vertices) for parent in dict.fromkeys(v.parents)]
    assert len(paths) == len(edges)
    for path, (parent, child) in zip(paths, edges, strict=True):
        numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", path)]
        x, y, w, h = found[parent]
        assert numbers[:2] == pytest.approx([x + w / 2, y + h], abs=0.11)
        x, y, w, h = found[child]
        assert numbers[-2:] == pytest.approx([x + w / 2, y], abs=0.11)
        assert found[parent][1] < found[child][1]


def test_it_shows_constants_names_and_gradients() -> None:
    graph, loss = small()
    loss.backward()
    texts = ["".join(t.itertext()) for t in ElementTree.fromstring(graph.svg()).iter(f"{SVG}tspan")]
    for text in (
        "x",
        "w",
        "multiply(·, 2.5)",
        "where(constant (2,), ·, ·)",
        "multiply(·, constant (2,))",
        "|grad| = 1",
    ):
        assert text in texts


def test_names_are_escaped() -> None:
    x = ag.tensor(1.0, requires_grad=True)
    graph = ag.Graph((x * 2.0).named('<script>&"'), x=x)
    assert "<script>" in "".join(ElementTree.fromstring(graph.svg()).itertext())


def test_in_a_notebook() -> None:
    graph, _ = small()
    assert graph._repr_svg_() == graph.svg()
    assert repr(graph) == "Graph(10 vertices)"
    assert chain()[0]._repr_svg_() is None  # too many to look at: the notebook shows the repr


def test_one_vertex() -> None:
    x = ag.tensor(1.0, requires_grad=True)
    assert len(boxes(ElementTree.fromstring(ag.Graph(x, x=x).svg()))) == 1
