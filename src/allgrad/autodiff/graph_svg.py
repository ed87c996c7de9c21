"""A recorded graph as SVG: a layered layout of our own, so that a picture needs no other program.

The four steps of Sugiyama, Tagawa and Toda (1981):

1. Layers. An operation is one layer below the lowest of its parents. A leaf is then moved down to just above its first user.
2. An edge over several layers becomes a chain of dummy vertices, one per layer in between, so that every edge joins neighbours.
3. Order. Each layer is sorted by the mean place of its neighbours in the layer above, then below, a few times. That removes most
   crossings.
4. Places. Vertices move towards the mean of their neighbours as far as the order and the widths allow.

All of it is iterative and takes time proportional to the number of edges, dummies included; beyond `_MOST_DUMMIES` long edges are
straight lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.autodiff.vertex import Vertex

__all__ = ["svg"]

_CHARACTER, _LINE, _PADDING = 6.7, 14, 8  # pixels, for the font below
_ACROSS, _DOWN = 18, 34  # gaps between boxes, in pixels
_SWEEPS = 4
_MOST_DUMMIES = 20_000
_FILLS = {"leaf": "#fff6d6", "input": "#e2f1e4", "operation": "#ffffff"}


@dataclass
class _Box:
    """A vertex of the picture; a dummy has no lines."""

    layer: int
    lines: list[str] = field(default_factory=list)
    kind: str = ""
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    x: float = 0.0

    @property
    def width(self) -> float:
        longest = max(map(len, self.lines), default=0)
        return longest * _CHARACTER + 2 * _PADDING if self.lines else 4.0


def svg(vertices: Sequence[Vertex]) -> str:
    """The picture; data flow from top to bottom.

    Args:
        vertices: in an order in which each comes after its parents.
    """
    boxes = [_Box(layer, _lines(v), v.kind) for v, layer in zip(vertices, _layers(vertices), strict=True)]
    chains = _join(vertices, boxes)
    layers: list[list[int]] = [[] for _ in range(1 + max(box.layer for box in boxes))]
    for index, box in enumerate(boxes):
        layers[box.layer].append(index)
    _order(layers, boxes)
    _place(layers, boxes)
    return _drawn(layers, boxes, chains)


def _layers(vertices: Sequence[Vertex]) -> list[int]:
    """The layer of each vertex: below its parents, and for a leaf just above its first user."""
    layers: list[int] = []
    for vertex in vertices:
        layers.append(1 + max((layers[parent] for parent in vertex.parents), default=-1))
    first_user: dict[int, int] = {}
    for index, vertex in enumerate(vertices):
        for parent in vertex.parents:
            first_user[parent] = min(layers[index], first_user.get(parent, layers[index]))
    return [
        first_user.get(index, layer + 1) - 1 if not vertex.parents else layer
        for index, (vertex, layer) in enumerate(zip(vertices, layers, strict=True))
    ]


def _lines(vertex: Vertex) -> list[str]:
    """The text of a box: the name with its constant arguments, shape and dtype, and the size of the gradient."""
    constants = [argument for argument in vertex.arguments if not argument.startswith("%")]
    head = f"{vertex.name}({', '.join('·' if a.startswith('%') else a for a in vertex.arguments)})"
    lines = [head if constants else vertex.name, f"{vertex.shape} {vertex.dtype}"]
    return lines if vertex.gradient is None else [*lines, f"|grad| = {vertex.gradient:.3g}"]


def _join(vertices: Sequence[Vertex], boxes: list[_Box]) -> list[list[int]]:
    """Add dummies to `boxes`, and neighbours to all of them; returns each edge as the boxes that it passes."""
    edges = [(parent, child) for child, vertex in enumerate(vertices) for parent in dict.fromkeys(vertex.parents)]
    spare = _MOST_DUMMIES - sum(boxes[child].layer - boxes[parent].layer - 1 for parent, child in edges)
    chains = []
    for parent, child in edges:
        chain = [parent]
        for layer in range(boxes[parent].layer + 1, boxes[child].layer if spare >= 0 else 0):
            boxes.append(_Box(layer))
            chain.append(len(boxes) - 1)
        chains.append([*chain, child])
    for chain in chains:
        for upper, lower in pairwise(chain):
            boxes[upper].below.append(lower)
            boxes[lower].above.append(upper)
    return chains


def _order(layers: list[list[int]], boxes: Sequence[_Box]) -> None:
    """Sort every layer by the mean place of its neighbours, downwards and upwards in turn."""
    place = {index: float(number) for layer in layers for number, index in enumerate(layer)}

    def mean(neighbours: Sequence[int], own: float) -> float:
        return sum(place[n] for n in neighbours) / len(neighbours) if neighbours else own

    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            key = {i: mean(boxes[i].above if down else boxes[i].below, place[i]) for i in layer}
            layer.sort(key=key.__getitem__)
            place.update({index: float(number) for number, index in enumerate(layer)})


def _place(layers: Sequence[Sequence[int]], boxes: Sequence[_Box]) -> None:
    """The middle of each box, in pixels."""
    for layer in layers:
        _spread(layer, boxes, dict.fromkeys(layer, 0.0))
    for sweep in range(2 * _SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            wanted = {}
            for index in layer:
                near = boxes[index].above if down else boxes[index].below
                wanted[index] = sum(boxes[n].x for n in near) / len(near) if near else boxes[index].x
            _spread(layer, boxes, wanted)


def _spread(layer: Sequence[int], boxes: Sequence[_Box], wanted: dict[int, float]) -> None:
    """Move the boxes of a layer as near as possible to where they want to be, in their order and without overlaps.

    Half way between packing from the left and packing from the right, which is symmetric.
    """
    from_left, edge = [], float("-inf")
    for index in layer:
        half = boxes[index].width / 2
        from_left.append(max(wanted[index], edge + half))
        edge = from_left[-1] + half + _ACROSS
    from_right, edge = [], float("inf")
    for index in reversed(layer):
        half = boxes[index].width / 2
        from_right.append(min(wanted[index], edge - half))
        edge = from_right[-1] - half - _ACROSS
    for index, one, other in zip(layer, from_left, reversed(from_right), strict=True):
        boxes[index].x = (one + other) / 2


def _drawn(layers: Sequence[Sequence[int]], boxes: Sequence[_Box], chains: Sequence[Sequence[int]]) -> str:
    left = min(box.x - box.width / 2 for box in boxes) - _ACROSS
    right = max(box.x + box.width / 2 for box in boxes) + _ACROSS
    tops, y = [], float(_PADDING)
    heights = [max(_LINE * len(boxes[index].lines) + _PADDING for index in layer) for layer in layers]
    for height in heights:
        tops.append(y)
        y += height + _DOWN

    def ends(index: int) -> tuple[float, float, float]:
        """The middle, the top and the bottom of a box."""
        box, top = boxes[index], tops[boxes[index].layer]
        height = _LINE * len(box.lines) + _PADDING if box.lines else heights[box.layer]
        return box.x - left, top, top + height

    parts = []
    for chain in chains:
        x, _, bottom = ends(chain[0])
        path = [f"M{x:.1f},{bottom:.1f}"]
        for index in chain[1:]:
            x_next, top, next_bottom = ends(index)
            middle = (bottom + top) / 2
            path.append(f"C{x:.1f},{middle:.1f} {x_next:.1f},{middle:.1f} {x_next:.1f},{top:.1f}")
            if index != chain[-1]:
                path.append(f"V{next_bottom:.1f}")
            x, bottom = x_next, next_bottom
        parts.append(f'<path d="{" ".join(path)}" fill="none" stroke="#8a949e" marker-end="url(#arrow)"/>')
    for index, box in enumerate(boxes):
        if box.lines:
            parts.append(_box(box, *ends(index)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right - left:.0f}" height="{y - _DOWN + _PADDING:.0f}" '
        'font-family="ui-monospace, monospace" font-size="11"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#8a949e"/></marker></defs>'
        + "".join(parts)
        + "</svg>"
    )


def _box(box: _Box, x: float, top: float, bottom: float) -> str:
    texts = "".join(
        f'<tspan x="{x:.1f}" y="{top + _LINE * (number + 1) - 1:.1f}"{"" if number == 0 else _QUIET}>{escape(line)}</tspan>'
        for number, line in enumerate(box.lines)
    )
    return (
        f'<rect x="{x - box.width / 2:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{bottom - top:.1f}" rx="5" '
        f'fill="{_FILLS[box.kind]}" stroke="#8a949e"/><text text-anchor="middle" fill="#1c2733">{texts}</text>'
    )


_QUIET = ' fill="#5b6875"'
