"""The recorded graph as a picture: text, SVG, DOT, Mermaid, and PNG or PDF where graphviz is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from allgrad.autodiff.engine import CLOSED, OBSERVERS
from allgrad.autodiff.errors import GraphFreedError, NotDifferentiableError
from allgrad.autodiff.graph_svg import svg
from allgrad.autodiff.node import Leaf, Node
from allgrad.autodiff.vertex import Vertex

if TYPE_CHECKING:
    from allgrad.autodiff.tensor import Tensor


_MOST_IN_NOTEBOOK = 1000


class Graph:
    """The graph behind a Tensor, in order of creation; draw it before or after its backward pass.

    Args:
        root: the result, a Tensor with a history that has not been freed.
        **leaves: names for leaves.

    Backward frees the tape but not this picture, which notes the size of every cotangent as it passes. It does so as long as
    the Graph exists, in passes that start from one of its vertices, and leaves nothing behind on the tape.

    >>> import numpy as np, allgrad as ag
    >>> x, w = ag.tensor([1.0, 2.0], requires_grad=True), ag.tensor(3.0, requires_grad=True)
    >>> loss = np.sum(np.sin(x) * w)
    >>> graph = ag.Graph(loss, x=x, w=w)
    >>> print(graph.text())
    %0 = x  (2,) float64
    %1 = w  () float64
    %2 = sin(%0)  (2,) float64
    %3 = multiply(%2, %1)  (2,) float64
    %4 = sum(%3)  () float64
    >>> loss.backward()
    >>> print(graph.text().splitlines()[1])
    %1 = w  () float64  |grad| = 1.75
    """

    def __init__(self, root: Tensor, **leaves: Tensor) -> None:
        if root.node is None:
            raise NotDifferentiableError("Graph needs a Tensor with a history; nothing tracked went into this one.")
        names = {t.node: name for name, t in leaves.items()}
        nodes = _collect(root.node)
        index = {node: i for i, node in enumerate(nodes)}
        self.vertices = [_vertex(node, names.get(node), index) for node in nodes]
        self._vertex_of = WeakKeyDictionary(zip(nodes, self.vertices, strict=True))
        OBSERVERS.append(ref(self, OBSERVERS.remove))

    def sees(self, root: Node) -> bool:
        """Whether a backward pass from `root` is about this graph (called by the engine)."""
        return root in self._vertex_of

    def observe(self, node: Node, g: Any) -> None:
        """Note the size of a node's complete cotangent (called by the engine)."""
        vertex = self._vertex_of.get(node)
        if vertex is not None and not node.outputs:
            vertex.gradient = float(np.linalg.norm(np.asarray(getattr(g, "value", g)).ravel()))

    def text(self) -> str:
        """One line per operation, in order of creation."""
        lines = []
        for i, v in enumerate(self.vertices):
            called = f"({', '.join(v.arguments)})" if v.parents else ""
            lines.append(f"%{i} = " + v.label.replace("  ", f"{called}  ", 1))
        return "\n".join(lines)

    def dot(self) -> str:
        """The graph in graphviz' language, data flowing from top to bottom."""
        lines = ["digraph allgrad {", "  node [shape=box, style=rounded, fontname=Helvetica];"]
        for i, v in enumerate(self.vertices):
            style = "" if v.parents else ", style=filled, fillcolor=lightyellow"
            label = v.label.replace("\\", "\\\\").replace('"', '\\"').replace("  ", "\\n")
            lines.append(f'  n{i} [label="{label}"{style}];')
        lines += [f"  n{p} -> n{i};" for i, v in enumerate(self.vertices) for p in v.parents]
        return "\n".join([*lines, "}"])

    def mermaid(self) -> str:
        """The graph in Mermaid's language, as Markdown viewers draw it."""
        lines = ["graph TD"]
        for i, v in enumerate(self.vertices):
            label = v.label.replace('"', "#quot;").replace("  ", "<br/>")
            lines.append(f'  n{i}["{label}"]' if v.parents else f'  n{i}(["{label}"])')
        lines += [f"  n{p} --> n{i}" for i, v in enumerate(self.vertices) for p in v.parents]
        return "\n".join(lines)

    def svg(self) -> str:
        """The graph as an SVG picture, data flowing from top to bottom; constants are shown as arguments."""
        return svg(self.vertices)

    def _repr_svg_(self) -> str | None:
        return self.svg() if len(self.vertices) <= _MOST_IN_NOTEBOOK else None

    def __repr__(self) -> str:
        return f"Graph({len(self.vertices)} vertices)"

    def save(self, path: str | Path) -> None:
        """Write a picture; the suffix says which: .svg, .txt, .dot, .mmd, or .png, .pdf, which graphviz' `dot` draws.

        Raises:
            ValueError: another suffix.
            FileNotFoundError: graphviz is needed and not installed.
        """
        path = Path(path)
        forms = {".svg": self.svg, ".txt": self.text, ".dot": self.dot, ".mmd": self.mermaid}
        if path.suffix in forms:
            path.write_text(forms[path.suffix]() + "\n", encoding="utf-8")
            return
        if path.suffix not in (".png", ".pdf"):
            raise ValueError(f"Graph.save: {path} must end in .svg, .txt, .dot, .mmd, .png or .pdf.")
        program = shutil.which("dot")
        if program is None:
            raise FileNotFoundError(
                f"Graph.save: {path.suffix} pictures are drawn by graphviz' `dot`, which is not installed. "
                "Install graphviz, or save as .svg, .dot, .mmd or .txt."
            )
        drawn = subprocess.run(
            [program, f"-T{path.suffix[1:]}"], input=self.dot().encode(), capture_output=True, check=True
        )
        path.write_bytes(drawn.stdout)


def _collect(root: Node) -> list[Node]:
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.plan is None and not isinstance(node, Leaf) and node.origin != CLOSED:
            raise GraphFreedError(
                "Graph: a backward pass has freed this graph; draw it before, or pass retain_graph=True."
            )
        for parent in node.parents:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.seq)


def _vertex(node: Node, name: str | None, index: dict[Node, int]) -> Vertex:
    made_by = node.plan.name if node.plan else "leaf"
    kind = "leaf" if isinstance(node, Leaf) else "input" if made_by == "input" else "operation"
    return Vertex(
        name=name or node.origin or made_by,
        kind=kind,
        shape=", ".join(map(str, node.shape)) if node.outputs else str(node.shape),
        dtype=", ".join(map(str, node.dtype)) if node.outputs else str(node.dtype),
        parents=[index[p] for p in node.parents],
        arguments=_arguments(node, index),
    )


def _arguments(node: Node, index: dict[Node, int]) -> list[str]:
    if node.plan is None:
        return []
    parents = iter(node.parents)
    return [f"%{index[next(parents)]}" if text is None else text for text in node.plan.arguments(node)]
