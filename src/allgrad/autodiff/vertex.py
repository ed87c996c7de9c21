"""What a picture of the recorded graph is made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Vertex:
    """One operation or leaf of the graph.

    Attributes:
        name: the operation's name, or that of the leaf; the user's name for it where given with `Tensor.named`.
        kind: "leaf", "input" (of a transform) or "operation".
        shape, dtype: of the result, as text.
        parents: indices of the vertices that it was computed from.
        arguments: as text, in order: "%0" for the vertex 0, a number or "constant (3,)" for an untracked argument.
        gradient: the 2-norm of its cotangent in the last backward pass; None before, or if none arrived.
    """

    name: str
    kind: str
    shape: str
    dtype: str
    parents: list[int] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    gradient: float | None = None

    @property
    def label(self) -> str:
        size = "" if self.gradient is None else f"  |grad| = {self.gradient:.3g}"
        return f"{self.name}  {self.shape} {self.dtype}{size}"
