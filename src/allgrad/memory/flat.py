"""Moving the leaves of a model into flat memory, once.

Whoever needs a model's parameters as flat arrays (an optimizer, data parallelism) calls `flatten`. The first call plans a layout,
moves every leaf's value and gradient there, and remembers it for as long as somebody holds the result; later calls with the same
leaves, or with some of them, get the same `FlatParameters`. So it does not matter who comes first.

Leaves are told apart by identity: a tied parameter is one leaf, has one slot, and is counted once.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from allgrad.autodiff import Tensor
from allgrad.memory.allocator import Allocator, aligned_zeros, give_back_freed
from allgrad.memory.arena import Arena, Layout, ParameterSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# By id of the leaf. An entry lives as long as its FlatParameters, which holds the leaf, so an id cannot be reused under it.
_homes: weakref.WeakValueDictionary[int, FlatParameters] = weakref.WeakValueDictionary()


class FlatParameters:
    """A model's leaves in flat memory. Made by `flatten`.

    Attributes:
        layout: who lies where.
        params: the values; each leaf's `.value` is a view of it.
        grads: the gradients; backward writes there.
        leaves: name to leaf, in order of registration.
    """

    def __init__(
        self, leaves: dict[str, Tensor], groups: Sequence[int], allocate_params: Allocator, allocate_grads: Allocator
    ) -> None:
        specs = [
            ParameterSpec(name, leaf.shape, leaf.dtype, group)
            for (name, leaf), group in zip(leaves.items(), groups, strict=True)
        ]
        self.layout = Layout.plan(specs)
        self.params, self.grads = Arena(self.layout, allocate_params), Arena(self.layout, allocate_grads)
        self.leaves = leaves
        self._names = {id(leaf): name for name, leaf in leaves.items()}
        for name, leaf in leaves.items():
            leaf.bind(value=self.params[name], grad=self.grads[name])
            _homes[id(leaf)] = self
        give_back_freed()  # the arrays in which the leaves have lived until now, and what made them

    def name_of(self, leaf: Tensor) -> str:
        """The name under which a leaf lies here. Raises KeyError for a leaf that does not."""
        return self._names[id(leaf)]

    def touch(self, names: Iterable[str] | None = None) -> None:
        """Say that values were written in the flat arrays: graphs that saved them can no longer run backward."""
        for name in self.leaves if names is None else names:
            self.leaves[name].touch()

    def without_gradient(self) -> set[str]:
        """Names of the leaves that have no gradient now (their slots in `grads` hold what was there before)."""
        return {name for name, leaf in self.leaves.items() if leaf.grad is None}

    def zero_grad(self) -> None:
        """Empty every leaf's gradient: the next backward writes it anew. The arrays themselves are left as they are."""
        for leaf in self.leaves.values():
            leaf.zero_grad()


def flatten(
    parameters: Iterable[Tensor | tuple[str, Tensor]],
    groups: Sequence[int] | None = None,
    *,
    allocate_params: Allocator = aligned_zeros,
    allocate_grads: Allocator = aligned_zeros,
) -> FlatParameters:
    """Put leaves into flat memory, or find where they are.

    Args:
        parameters: leaves of the tape (`nn.Parameter`, or `ag.tensor(..., requires_grad=True)`), or (name, leaf) pairs,
            in order of registration. A leaf that comes twice counts once. Names default to the leaf's own, then to
            `parameter0`, `parameter1`, ...; a default that is taken gets the position behind it (`weight#2`).
        groups: one number a parameter: members of a group become neighbours in memory. Used by the first call only.
        allocate_params, allocate_grads: where the memory comes from. Used by the first call only.

    Raises:
        ValueError: if there are no leaves; if two are of one name; or if some lie in flat memory already and others do not,
            or in another: then flatten all of them (the whole model) before the parts.
        TypeError: for what is no leaf.

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
        return FlatParameters(leaves, group_of, allocate_params, allocate_grads)
    if len(found) == 1 and not homeless:
        return next(iter(found.values()))
    raise ValueError(
        f"flatten: of {len(leaves)} parameters, {len(leaves) - len(homeless)} lie in {len(found)} flat memories already and "
        f"{len(homeless)} in none{': ' + ', '.join(homeless[:3]) if homeless else ''}. Flatten the whole model first "
        "(flatten(model.named_parameters())), then make optimizers for its parts."
    )


def _named(
    parameters: Iterable[Tensor | tuple[str, Tensor]], groups: Sequence[int] | None
) -> tuple[dict[str, Tensor], list[int]]:
    items = list(parameters)
    if not items:
        raise ValueError("flatten: there are no parameters.")
    if groups is not None and len(groups) != len(items):
        raise ValueError(f"flatten: groups must have one number a parameter. Got {len(groups)} for {len(items)}.")
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
