"""Moving the leaves of a model into flat memory, once.

An optimizer or data parallelism, which need a model's parameters as flat arrays, call `flatten`. The first call allocates
flat memory and moves every leaf's value and gradient there. Later calls with the same leaves, or some of them, return the
same `FlatParameters`, as long as somebody holds it.

Leaves are told apart by identity: a tied parameter is one leaf, has one slot, and is counted once.
"""

from __future__ import annotations

import itertools
import weakref
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Tensor
from allgrad.autodiff.node import SEQUENCE
from allgrad.memory.allocator import give_back_freed
from allgrad.memory.arena import Arena, Layout, ParameterSpec
from allgrad.memory.sharing import PRIVATE, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from allgrad.autodiff.node import Leaf
    from allgrad.memory.sharing import Share, Sharing

_NOTHING = nullcontext()

# By id of the leaf. An entry lives as long as its FlatParameters, which holds the leaf, so an id cannot be reused under it.
_homes: weakref.WeakValueDictionary[int, FlatParameters] = weakref.WeakValueDictionary()


class FlatParameters:
    """A model's leaves in flat memory. Made by `flatten`.

    Attributes:
        layout: where each leaf is.
        params: the values; each leaf's `.value` is a view of them.
        grads: the gradients; backward writes them.
        leaves: name -> leaf, in order of registration.
        nodes: name -> the leaf's place on the tape.
        sharing: the processes that share this memory. If there are several, the leaves take the values of the first one.
    """

    def __init__(self, leaves: dict[str, Tensor], groups: Sequence[int], sharing: Sharing) -> None:
        specs = [
            ParameterSpec(name, leaf.shape, leaf.dtype, group)
            for (name, leaf), group in zip(leaves.items(), groups, strict=True)
        ]
        self.layout = Layout.plan(specs)
        self.leaves, self.sharing = leaves, sharing
        self._arenas: weakref.WeakValueDictionary[int, Arena] = weakref.WeakValueDictionary()
        self._counter = itertools.count()
        self._shares: dict[bool, Share] = {}
        self._params, self.grads = self.new_arena(), self.new_arena()
        self._incomplete: Callable[[], None] | None = None
        self.nodes: dict[str, Leaf] = {name: leaf._leaf("flatten") for name, leaf in leaves.items()}
        self._versions = {name: node.version for name, node in self.nodes.items()}
        self._names = {id(leaf): name for name, leaf in leaves.items()}
        if sharing.rank:
            sharing.barrier()
        for name, leaf in leaves.items():
            if sharing.rank:
                leaf.value = self.params[name]
            leaf.bind(value=self.params[name], grad=self.grads[name])
            _homes[id(leaf)] = self
        if not sharing.rank:
            sharing.barrier()
        if sharing.ranks > 1:
            self._let_write(False)
        give_back_freed()  # the arrays that the leaves had until now, and what made them

    @property
    def params(self) -> Arena:
        if self._incomplete is not None:
            self._incomplete()
            self._incomplete = None
        return self._params

    def wait_for(self, wait: Callable[[], None]) -> None:
        """Call `wait` before anybody gets `params` again: some of the values are still on their way to this process."""
        self._incomplete = wait

    def new_arena(self, layout: Layout | None = None) -> Arena:
        """An arena for what belongs to the parameters (moments, averages), in the same memory; it moves with them."""
        arena = Arena(layout or self.layout, self.sharing.allocate)
        self._arenas[next(self._counter)] = arena
        return arena

    @property
    def arenas(self) -> list[Arena]:
        """The parameters and all that belongs to them, without the gradients, in the order in which they were made."""
        return [arena for _, arena in sorted(self._arenas.items()) if arena is not self.grads]

    def own_share(self, *, whole: bool) -> Share:
        """What this process updates; see `share_of`."""
        if whole not in self._shares:
            self._shares[whole] = share_of(self.layout, self.sharing.rank, self.sharing.ranks, whole=whole)
        return self._shares[whole]

    def move(self, sharing: Sharing, *, fills: bool) -> None:
        """Into other memory, because the processes that share it have changed. All of the new ones call this together.

        Until all values are there, nothing changes here: if a process dies meanwhile, the others still have the old memory.
        Gradients are not moved.

        Args:
            sharing: the processes, and their memory.
            fills: whether this process writes its values into it: one process, or none if they come from elsewhere.
        """
        arenas = self.arenas
        new = [arena.new_arrays(sharing.allocate) for arena in (*arenas, self.grads)]
        if fills:
            for arena, arrays in zip(arenas, new, strict=False):
                for dtype, array in arrays.items():
                    np.copyto(array, arena.flat[dtype])
        sharing.barrier()
        for arena, arrays in zip((*arenas, self.grads), new, strict=True):
            arena.place(arrays)
        self.sharing = sharing
        self._shares.clear()
        for name, leaf in self.leaves.items():
            leaf.value = self.params[name]
            self.nodes[name].redirect(self.grads[name])
        self.touch()
        if sharing.ranks > 1:
            self._let_write(False)

    def name_of(self, leaf: Tensor) -> str:
        """The name of a leaf. Raises KeyError for a leaf that is not here."""
        return self._names[id(leaf)]

    def updating(self) -> AbstractContextManager[None]:
        """Around an update. If the memory is shared, each process writes its own share only, or all write the same numbers."""
        return _BetweenBarriers(self.sharing) if self.sharing.ranks > 1 else _NOTHING

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `updating`, for writes through the leaves or `params[name]`, which are read-only otherwise if the memory is shared.

        For example around `model.load_state_dict(state)`, which all processes call with the same state.
        """
        with self.updating():
            if self.sharing.ranks == 1:
                yield
                return
            self._let_write(True)
            try:
                yield
            finally:
                self._let_write(False)

    def _let_write(self, writable: bool) -> None:
        for name in self.leaves:
            self.params[name].flags.writeable = writable

    def touch(self, names: Iterable[str] | None = None) -> None:
        """Values in the flat arrays were changed: graphs that saved them can no longer run backward."""
        versions, now = self._versions, next(SEQUENCE)
        for name in versions if names is None else names:
            versions[name].written = now

    def without_gradient(self) -> set[str]:
        """Names of the leaves that have no gradient now; their slots in `grads` hold old numbers."""
        return {name for name, node in self.nodes.items() if not node.filled}

    def zero_grad(self) -> None:
        """Drop every leaf's gradient: the next backward overwrites it. The arrays keep their numbers until then."""
        for leaf in self.leaves.values():
            leaf.zero_grad()


class _BetweenBarriers:
    """A context with a barrier at its start and, unless it raises, at its end. (A generator takes three times as long.)"""

    def __init__(self, sharing: Sharing) -> None:
        self.sharing = sharing

    def __enter__(self) -> None:
        self.sharing.barrier()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.sharing.barrier()


def flatten(
    parameters: Iterable[Tensor | tuple[str, Tensor]],
    groups: Sequence[int] | None = None,
    *,
    sharing: Sharing = PRIVATE,
) -> FlatParameters:
    """Move leaves into flat memory, or find them there.

    Args:
        parameters: leaves of the tape (`nn.Parameter`, or `ag.tensor(..., requires_grad=True)`), or (name, leaf) pairs,
            in order of registration. A leaf that is given twice counts once. Names default to the leaf's own, then to
            `parameter0`, `parameter1`, ...; a default that is taken already gets its position appended (`weight#2`).
        groups: one number per parameter: members of a group become neighbours in memory. Only the first call uses it.
        sharing: which processes share the memory; all of them call this together. Only the first call uses it.

    Raises:
        ValueError: there are no leaves; two have the same name; or some are in flat memory already and others are not, or
            are in another: then flatten the whole model before its parts.
        TypeError: one of `parameters` is not a leaf.

    Example:
        >>> import allgrad as ag
        >>> from allgrad.memory import flatten
        >>> w, b = ag.tensor([1.0, 2.0], requires_grad=True), ag.tensor(3.0, requires_grad=True)
        >>> flat = flatten([("w", w), ("b", b)])
        >>> flat.params["w"][...] = 7
        >>> w.tolist(), flatten([b]) is flat
        ([7.0, 7.0], True)
    """
    leaves, group_of = _named(parameters, groups)
    found = {id(home): home for leaf in leaves.values() if (home := _homes.get(id(leaf))) is not None}
    homeless = [name for name, leaf in leaves.items() if id(leaf) not in _homes]
    if not found:
        return FlatParameters(leaves, group_of, sharing)
    if len(found) == 1 and not homeless:
        return next(iter(found.values()))
    raise ValueError(
        f"flatten: of {len(leaves)} parameters, {len(leaves) - len(homeless)} are in {len(found)} flat memories already and "
        f"{len(homeless)} are in none{': ' + ', '.join(homeless[:3]) if homeless else ''}. Flatten the whole model first "
        "(flatten(model.named_parameters())), then make optimizers for its parts."
    )


def home_of(leaf: Tensor) -> FlatParameters | None:
    """The flat memory in which a leaf is."""
    return _homes.get(id(leaf))


def _named(
    parameters: Iterable[Tensor | tuple[str, Tensor]], groups: Sequence[int] | None
) -> tuple[dict[str, Tensor], list[int]]:
    items = list(parameters)
    if not items:
        raise ValueError("flatten: there are no parameters.")
    if groups is not None and len(groups) != len(items):
        raise ValueError(f"flatten: groups must have one number per parameter. Got {len(groups)} for {len(items)}.")
    leaves: dict[str, Tensor] = {}
    group_of: list[int] = []
    seen: set[int] = set()
    for index, item in enumerate(items):
        name, leaf = item if isinstance(item, tuple) else (None, item)
        if not isinstance(leaf, Tensor) or not leaf.is_leaf:
            raise TypeError(
                f"flatten: parameter {index} must be an nn.Parameter or ag.tensor(..., requires_grad=True). "
                f"Got {_what(leaf)} instead."
            )
        if id(leaf) in seen:
            continue
        seen.add(id(leaf))
        if name is None:
            name = getattr(leaf, "name", None) or f"parameter{index}"
            name = f"{name}#{index}" if name in leaves else name  # of another model, say
        if name in leaves:
            raise ValueError(f"flatten: two parameters are named {name!r}; give each pair another name.")
        leaves[name] = leaf
        group_of.append(0 if groups is None else groups[index])
    return leaves, group_of


def _what(thing: Any) -> str:
    return "a Tensor that is not a leaf" if isinstance(thing, Tensor) else type(thing).__name__
