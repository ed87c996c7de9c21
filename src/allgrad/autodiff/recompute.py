"""`checkpoint`: memory for time. A region's intermediate values are dropped in forward and computed again in backward.

The contract with the hooks: in its forward pass the region is recorded while it runs, to find which tracked values from outside
(parameters above all) the function captured. These become parents of the region's one node, beside its arguments, so the outer
walk counts their uses from the start, and every leaf still has exactly one final event, after the region's contribution. In
backward the function runs again under the modes and the random state of its forward pass (`on_recompute`), an inner walk pulls
the cotangents to arguments and captured nodes, and the new graph is dropped. The recomputed results must be those of the forward
pass, bit for bit; otherwise something that the function captured has changed, and backward raises.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.containers import flatten
from allgrad.autodiff.engine import captured, pull
from allgrad.autodiff.errors import SavedArrayError
from allgrad.autodiff.inner import inner_leaf
from allgrad.autodiff.modes import CURRENT, switched
from allgrad.autodiff.node import SEQUENCE, Backward, Leaf, Node
from allgrad.autodiff.outputs import outputs_of
from allgrad.autodiff.saved import keep
from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Replay = AbstractContextManager[Any]

_snapshots: list[Callable[[], Callable[[], Replay]]] = []


def on_recompute(snapshot: Callable[[], Callable[[], Replay]]) -> None:
    """Register state that a recomputation must see as the forward saw it (random streams).

    `snapshot()` is called at each region's forward; what it returns is called at its recomputation, and gives a context
    manager under which the function runs again.
    """
    _snapshots.append(snapshot)


class _Region(Backward):
    """One recomputed region; made for each call, and held by its node."""

    __slots__ = ("args", "build", "captured", "f", "modes", "replays", "results", "tracked", "versions")

    def __init__(self, f: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]) -> None:
        self.name = f"checkpoint({getattr(f, '__name__', f)})"
        self.f = f
        self.modes = CURRENT.get()
        self.replays = [snapshot() for snapshot in _snapshots]
        self.args, self.build = flatten([list(args), keywords])
        self.tracked = tuple(i for i, a in enumerate(self.args) if isinstance(a, Tensor) and a.node is not None)
        self.args = [_as_it_is(a) for a in self.args]

    def run(self, linked: bool) -> tuple[Any, list[Node], int]:
        """Run f on inner leaves in place of its tracked arguments: result, those leaves, and the oldest node inside."""
        floor = next(SEQUENCE)
        leaves = []
        inner = [_as_it_is(a) if isinstance(a, Tensor) else a for a in self.args]  # f may write to its arguments
        for i in self.tracked:
            inner[i] = inner_leaf(inner[i], linked=linked)
            leaves.append(inner[i].node)
        args, keywords = self.build(inner)
        with switched(**self.modes._asdict()):
            return self.f(*args, **keywords), leaves, floor

    def find_captured(self, results: Sequence[Tensor], leaves: list[Node], floor: int) -> tuple[Node, ...]:
        self.results = [y.value for y in results]
        self.captured = tuple(captured(results, leaves, floor))
        self.versions = [_version(n) for n in self.captured]
        return tuple(self.args[i].node for i in self.tracked) + self.captured

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:
        for n, version in zip(self.captured, self.versions, strict=True):
            if _version(n) != version:
                raise SavedArrayError(
                    f"{self.name}: a parameter of shape {n.shape} that the region uses was overwritten between its forward "
                    "pass and its recomputation. Call backward() before the optimizer's step."
                )
        linked = bool(walk.tensors and CURRENT.get().recording)
        with ExitStack() as stack:
            for replay in self.replays:
                stack.enter_context(replay())
            result, leaves, floor = self.run(linked)
        results = _tracked_results(result)
        self._check_same(results)
        cotangents = g if node.outputs else (g,)
        return pull(results, cotangents, [*leaves, *self.captured], linked=linked, floor=floor)[0]

    def _check_same(self, results: Sequence[Tensor]) -> None:
        """Raise if f did not compute the same thing again."""
        same = len(results) == len(self.results) and all(
            np.array_equal(y.value, before, equal_nan=True) for y, before in zip(results, self.results, strict=True)
        )
        if not same:
            raise SavedArrayError(
                f"{self.name}: the function gave another result when it was computed again in backward, so the gradient would "
                "be wrong. It must not depend on arrays that are written in between, nor on random numbers of its own: draw "
                "them outside and pass them as arguments. (Random layers of allgrad.nn are replayed.)"
            )


def _as_it_is(a: Any) -> Any:
    """The value of `a` and its place on the tape, which no later write to `a` changes."""
    if isinstance(a, Tensor):
        return Tensor(a.value, a.node)
    return keep(a) if isinstance(a, np.ndarray) else a


def _version(node: Node) -> int:
    return node.version.written if isinstance(node, Leaf) else 0


def _tracked_results(result: Any) -> list[Tensor]:
    return [y for y in flatten(result)[0] if isinstance(y, Tensor) and y.node is not None]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, with its intermediate values computed again in backward instead of kept.

    Args:
        f: a function of arrays, Tensors and nested containers of them; it may capture parameters. It must compute the
            same thing when it runs again: random numbers drawn through allgrad's layers are replayed.

    >>> import numpy as np, allgrad as ag
    >>> w = ag.tensor(np.array([0.5, 2.0]), requires_grad=True)
    >>> block = ag.checkpoint(lambda x: np.sin(np.exp(x * w)))
    >>> np.sum(block(np.array([1.0, 1.0]))).backward()
    >>> np.allclose(w.grad, np.cos(np.exp(w.numpy())) * np.exp(w.numpy()))
    True
    """

    @wraps(f)
    def wrapped(*args: Any, **keywords: Any) -> Any:
        modes = CURRENT.get()
        if not modes.recording or modes.forward:
            return f(*args, **keywords)  # nothing is kept, or tangents travel with the values
        region = _Region(f, args, keywords)
        result, leaves, floor = region.run(linked=False)
        flat, build = flatten(result)
        tracked = _tracked_results(result)
        parents = region.find_captured(tracked, leaves, floor)
        if not tracked or not parents:
            return build([Tensor(y.value) if isinstance(y, Tensor) else y for y in flat])
        fresh = iter(_as_outputs(region, parents, [y.value for y in tracked]))
        return build([next(fresh) if isinstance(y, Tensor) and y.node is not None else y for y in flat])

    return wrapped


def _as_outputs(region: _Region, parents: tuple[Node, ...], values: list[Any]) -> Sequence[Tensor]:
    if len(values) == 1:
        return (Tensor(values[0], Node(region, parents, values[0].shape, values[0].dtype)),)
    shapes = tuple(np.shape(v) for v in values)
    node = Node(region, parents, shapes, tuple(v.dtype for v in values))
    node.outputs = len(values)
    return outputs_of(tuple(values), node, None)
