"""Fusing neighbours: an activation, and max-pooling, run inside the layer before them.

A linear layer, convolution, or batch norm without an activation of its own can run the elementwise activation that follows
it while its result is in cache. A convolution can also run the max-pooling behind it, so that the large image is never
stored. The values are the same, and so are the gradients, except that among pixels that are equal only by rounding another
one may get the gradient.

A module is fused only if it is exactly one of allgrad's own: its type is in a table here, and neither the class nor the
instance has another `forward` than the one that the table knows. A subclass is always called as it is.

What is fused with what is decided once per `Sequential`, and again after any attribute of any module was set (`module.changes`)
or the `forward` of one of these classes was replaced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from allgrad.nn import activations
from allgrad.nn.activations import Activation
from allgrad.nn.batchnorm import BatchNorm1d, BatchNorm2d, SyncBatchNorm
from allgrad.nn.conv import Conv1d, Conv2d
from allgrad.nn.flatten import FlatLinear
from allgrad.nn.linear import Linear
from allgrad.nn.module import changes
from allgrad.nn.pooling import MaxPool2d

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from allgrad.nn.module import Module

_ACTIVATIONS: tuple[type[Module], ...] = tuple(
    each for each in vars(activations).values() if isinstance(each, type) and issubclass(each, Activation)
)
_LAYERS: tuple[type[Module], ...] = (Linear, FlatLinear, Conv1d, Conv2d, BatchNorm1d, BatchNorm2d, SyncBatchNorm)
_KINDS: tuple[type[Module], ...] = (*_ACTIVATIONS, *_LAYERS, MaxPool2d)
_FORWARD = {each: each.forward for each in _KINDS}


Call = Callable[[Any], Any]
"""A module, or its `with_activation` with what runs the neighbours behind it too."""


class _Decision(NamedTuple):
    """The calls of a sequence, and what they depend on: a value of `changes()`, and the classes' `forward`."""

    changes: int
    forwards: tuple[tuple[type[Module], Callable[..., Any]], ...]
    calls: tuple[Call, ...]


_decisions: WeakKeyDictionary[Module, _Decision] = WeakKeyDictionary()


def calls_of(sequence: Module) -> tuple[Call, ...]:
    """The children of `sequence` as calls."""
    found = _decisions.get(sequence)
    if found is not None and found.changes == changes():
        for kind, forward in found.forwards:
            if kind.forward is not forward:
                break
        else:
            return found.calls
    children = list(sequence.children())
    forwards = tuple((kind, kind.forward) for kind in {type(child) for child in children})
    _decisions[sequence] = _Decision(changes(), forwards, tuple(fused_calls(children)))
    return _decisions[sequence].calls


def fused_calls(modules: Iterable[Module]) -> Iterator[Call]:
    """The modules in order; neighbours that can be fused are one call.

    >>> from allgrad import nn
    >>> len(list(fused_calls([nn.Linear(2, 2, rng=0), nn.ReLU(), nn.Linear(2, 2, rng=0)])))
    2
    """
    rest: deque[Any] = deque(modules)
    while rest:
        layer = rest.popleft()
        if not _is_plain(layer, _LAYERS):
            yield layer
            continue
        activation, options = layer.activation, {}
        if activation is None and rest and _is_plain(rest[0], _ACTIVATIONS):
            activation = rest.popleft().activation
        if type(layer) is Conv2d and rest and _is_plain(rest[0], (MaxPool2d,)):
            tile = rest[0].tile
            if tile is not None and layer.can_pool(activation, tile):
                options["pool"] = tile
                rest.popleft()
        yield partial(layer.with_activation, activation=activation, **options)


def _is_plain(module: Module, kinds: tuple[type[Module], ...]) -> bool:
    kind = type(module)
    own = kind in kinds and kind.forward is _FORWARD[kind]
    bare = "forward" not in vars(module) and "with_activation" not in vars(module)
    return own and bare and module.precision is None
