"""The gradients of a model, in whatever form the caller names the parameters."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Tensor
from allgrad.memory import PRIVATE, FlatParameters, home_of
from allgrad.optim.groups import members_of
from allgrad.optim.norms import sum_of_squares

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from allgrad.memory import Slot

Array = np.ndarray[Any, np.dtype[Any]]


def gradients_of(
    params: FlatParameters | Iterable[Any], unused: Collection[str] | None = None, *, caller: str = "gradients_of"
) -> dict[str, Array]:
    """The gradient of each parameter that has one, by name and in order of registration: the memory itself, not copies.

    Args:
        params: a Module, an Optimizer, FlatParameters, leaves, or (name, leaf) pairs.
        unused: names of parameters to leave out. By default those whose leaf has no gradient.
        caller: a name for messages.

    Raises:
        TypeError: if `params` is something else.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> w = ag.tensor([3.0, 4.0], requires_grad=True)
        >>> np.sum(w * w).backward()
        >>> gradients_of([w])
        {'parameter0': array([6., 8.])}
    """
    flat = params if isinstance(params, FlatParameters) else getattr(params, "flat", None)
    if isinstance(flat, FlatParameters):
        names = flat.leaves if flat is params else params.steps  # type: ignore[union-attr]
        skip = flat.without_gradient() if unused is None else unused
        return {name: flat.grads[name] for name in names if name not in skip}
    if not hasattr(params, "__iter__") and not hasattr(params, "named_parameters"):
        raise _wrong(caller, params)
    found: dict[str, Array] = {}
    seen: set[int] = set()
    for index, item in enumerate(members_of(params)):
        name, leaf = item if isinstance(item, tuple) and len(item) == 2 else (None, item)
        if not isinstance(leaf, Tensor) or not leaf.is_leaf:
            raise _wrong(caller, leaf)
        name = name or getattr(leaf, "name", None) or f"parameter{index}"
        if id(leaf) not in seen and leaf.grad is not None and name not in (unused or ()):
            found[name if name not in found else f"{name}#{index}"] = leaf.grad
        seen.add(id(leaf))
    return found


def squares_of(gradients: Mapping[str, Array], params: Any) -> dict[str, float]:
    """The sum of squares of each gradient. Ranks that share memory compute those of their own parameters, and exchange them.

    Args:
        gradients: what `gradients_of(params)` returned.
        params: as given there.
    """
    flat = _flat_of(params)
    if flat is None or flat.sharing is PRIVATE:
        return {name: sum_of_squares(gradient) for name, gradient in gradients.items()}
    share = flat.own_share(whole=True)
    squares = np.zeros(len(gradients))
    for i, (gradient, slot) in enumerate(zip(gradients.values(), _slots(flat, gradients.values()), strict=True)):
        start, stop = share[gradient.dtype]
        if slot is not None and start <= slot.offset < stop:
            squares[i] = sum_of_squares(gradient)
    return dict(zip(gradients, flat.sharing.add_up(squares).tolist(), strict=True))


def _slots(flat: FlatParameters, gradients: Iterable[Array]) -> list[Slot | None]:
    """Where gradients are; None for one without elements."""
    places = {flat.grads[slot.name].ctypes.data: slot for slot in flat.layout.slots if slot.size}
    return [places[gradient.ctypes.data] if gradient.size else None for gradient in gradients]


@contextmanager
def changing(gradients: Mapping[str, Array], params: Any) -> Iterator[list[Array]]:
    """The parts of these gradients that this process changes: all of them, unless the ranks of a node share them.

    Args:
        gradients: what `gradients_of(params)` returned.
        params: as given there.
    """
    flat = _flat_of(params)
    if flat is None or flat.sharing.ranks == 1:
        yield list(gradients.values())
        return
    share = flat.own_share(whole=False)
    parts = []
    for slot in (each for each in _slots(flat, gradients.values()) if each is not None):
        start, stop = share[slot.dtype]
        parts.append(flat.grads.flat[slot.dtype][max(slot.offset, start) : min(slot.stop, stop)])
    with flat.updating():
        yield [part for part in parts if part.size]


def _flat_of(params: Any) -> FlatParameters | None:
    flat = params if isinstance(params, FlatParameters) else getattr(params, "flat", None)
    if isinstance(flat, FlatParameters):
        return flat
    members = members_of(params)
    leaf = members[0][1] if members and isinstance(members[0], tuple) else members[0] if members else None
    return None if leaf is None else home_of(leaf)


def _wrong(caller: str, given: Any) -> TypeError:
    return TypeError(
        f"{caller} takes a model, its parameters (model.parameters()), an optimizer, or FlatParameters. "
        f"Got {type(given).__name__} instead."
    )
