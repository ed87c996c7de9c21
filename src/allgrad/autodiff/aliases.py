"""Writing to a Tensor: in place means what NumPy means.

`y[1:] = v`, `y += v`, `np.add(a, b, out=y)`, `y.sort()` change the value and the derivative of y, of everything that y is a view
of, and of every view of that. No memory is overwritten, because backward may need it. A write is done in three steps:

1. The new contents of the Tensor that was written are computed as a function of the old contents: an ordinary operation.
2. They are put back into its source, and from there into the source's source, up to the Tensor that is no view (`_put_back`).
3. Every living view is made again from its new source, by the operation that made it (`_refresh`).

So a view needs to know its source and the operation that made it, and a source needs to know its views. Both are noted when
the view is made (`share`), and operations that make no view and write nothing pay nothing. A source holds its views by weak
references.

Leaves differ: their memory is theirs, and optimizers write it. While operations are recorded, writing to a leaf, or to a view
of one, raises. Under `no_grad` it writes the leaf's memory, which all views see, and bumps the leaf's version.

Results of rank 0 follow NumPy too, where they are scalars that cannot change: `s = np.sum(x); t = s; t += 1` leaves s as it is. A
0-d Tensor counts as an array only if it was made by `ag.tensor` or is a view.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from weakref import ref

import numpy as np

from allgrad.autodiff.errors import AssignmentError, LostGradientError
from allgrad.autodiff.modes import CURRENT
from allgrad.autodiff.node import Leaf, Storage
from allgrad.autodiff.operators import RULES


def share(source: Any, view: Any, primitive: Any, keywords: dict[str, Any]) -> None:
    """Note that `view` is the result of a view operation on `source`, unless NumPy made a copy."""
    value, base = view.value, source.value
    if value is not base and (value.base is None or (value.base is not base and value.base is not base.base)):
        return
    above = source._storage
    if above is None:
        above = source._storage = Storage()
    view._storage = Storage(above.version, (source, primitive, keywords))
    if above.version is not None:
        return  # a leaf's memory is shared for good: its views need no updates
    views = above.views
    if views is None:
        above.views = [ref(view)]
        return
    views.append(ref(view))
    if len(views) & 63 == 0:  # forget the dead ones now and then
        alive = [r for r in views if r() is not None]
        if len(alive) < len(views) // 2:
            above.views = alive


def _path(t: Any) -> list[Any]:
    """`t`, what it is a view of, what that is a view of, ..."""
    path = [t]
    while (storage := path[-1]._storage) is not None and storage.view_of is not None:
        path.append(storage.view_of[0])
    return path


def leaf_behind(t: Any) -> Any:
    """The leaf itself if `t` is one, the leaf that `t` is a view of, or None."""
    root = _path(t)[-1]
    return root if isinstance(root.node, Leaf) else None


def write(target: Any, new: Any, name: str) -> None:
    """Give `target` the contents `new` (a Tensor or array that broadcasts to its shape), as NumPy's `target[...] = new` does.

    Args:
        name: the operation, for messages: "+=".

    Raises:
        AssignmentError: the write has no meaning on the tape; the message says what to write instead.
        TypeError: the dtype of `new` cannot be cast to that of `target` by NumPy's rule "same_kind".
    """
    tracked = getattr(new, "node", None) is not None or getattr(new, "tangents", None) is not None
    if not np.can_cast(new.dtype, target.dtype, "same_kind"):
        raise TypeError(
            f"{name}: cannot cast the result from {new.dtype} to {target.dtype}, the dtype of the Tensor that is written. "
            "Use the result of the function instead, or convert the Tensor with astype() first."
        )
    if tracked and target.dtype.kind not in "fc":
        raise LostGradientError(
            f"{name}: a Tensor of {target.dtype} cannot take tracked values, because their gradient would be lost. Make it "
            f"floating first (y = y.astype({new.dtype})), or write the values with .detach()."
        )
    path = _path(target)
    _refuse_read_only(path, name)
    root = path[-1]
    if isinstance(root.node, Leaf):
        _write_leaf(root, path, new, tracked, name)
        return
    if root.node is not None and not CURRENT.get().recording:
        raise AssignmentError(
            f"{name} under no_grad() on a Tensor that has a history: its gradient would no longer fit its value. Write it "
            "outside no_grad(), or take y.detach() first. (Parameters and other leaves can be written under no_grad().)"
        )
    if root.node is not None and target.node is None:
        raise AssignmentError(
            f"{name} on a view that was made under no_grad() of a Tensor that has a history. Make it outside."
        )
    made = _fit(new, target, name)
    for view, source in pairwise(path):
        made = _put_back(source, view, made)
    _replace(root, made)


def _fit(new: Any, target: Any, name: str) -> Any:
    if new.shape != target.shape:
        if np.broadcast_shapes(new.shape, target.shape) != target.shape:
            raise ValueError(
                f"{name}: a result of shape {new.shape} cannot be broadcast into a Tensor of shape {target.shape}."
            )
        new = np.copy(np.broadcast_to(new, target.shape))
    return new if new.dtype == target.dtype else new.astype(target.dtype)


def _refuse_read_only(path: list[Any], name: str) -> None:
    for view, source in pairwise(path):
        if source.value.flags.writeable and not view.value.flags.writeable:
            raise AssignmentError(
                f"{name} on the result of {view._storage.view_of[1].name}, which is read-only in NumPy too: several of its "
                "entries may be one. Write `y = y.copy()` first."
            )


def _write_leaf(root: Any, path: list[Any], new: Any, tracked: bool, name: str) -> None:
    if CURRENT.get().recording:
        raise AssignmentError(
            f"{name} on {'a leaf' if len(path) == 1 else 'a view of a leaf'} (requires_grad=True) while operations are recorded "
            "would change an input after the fact. To update a parameter, write it under `with ag.no_grad():`, or use "
            "assign(). To compute with changed values, take a copy first: `y = x.copy()`."
        )
    if tracked and getattr(new, "tangents", None) is not None:
        raise LostGradientError(
            f"{name}: a leaf cannot keep the tangents of forward mode. Write new.detach(), or copy the leaf."
        )
    memory = root.value
    for view in reversed(path[:-1]):
        _, primitive, keywords = view._storage.view_of
        memory = primitive.function(memory, **keywords)
    write_leaf(memory, getattr(new, "value", new))
    root.node.touch()


def write_leaf(memory: Any, new: Any) -> None:
    """Copy numbers into the memory of a leaf, or of a view of one."""
    if not memory.flags.writeable:
        raise AssignmentError(
            "This leaf is read-only: its memory is shared with the other ranks of this node (memory: node), and only the "
            "optimizer writes there. To write it yourself, on all ranks alike: `with replica.flat.writing(): ...`."
        )
    np.copyto(memory, new, casting="same_kind")


def _put_back(source: Any, view: Any, new: Any) -> Any:
    """`source` with the part that `view` shows replaced by `new`."""
    _, primitive, keywords = view._storage.view_of
    if "key" in keywords:
        return RULES["setitem"](source, keywords["key"], new)
    if source.dtype.kind == "c" and view.dtype.kind != "c":
        return new + 1j * np.imag(source) if primitive.name == "real" else np.real(source) + 1j * new
    if view.size == source.size and primitive.joint is None:  # a permutation, whose transpose is its inverse
        return primitive.vjp_of(0)(new, (), keywords)
    # Which entries a view shows: the same operation on their numbers tells.
    places = primitive.function(np.arange(source.size).reshape(source.shape), **keywords)
    return np.reshape(RULES["setitem"](np.ravel(source), places, new), source.shape)


def _laid_out_like(old: Any, new: Any) -> Any:
    """`new` with the memory order of `old`, on which it depends whether a later reshape is a view."""
    if new.strides == old.strides or not old.flags.forc:
        return new
    made = np.empty_like(old)
    made[...] = new
    return made


def _replace(root: Any, made: Any) -> None:
    """Let `root` be `made`, and make its views again."""
    pending = [(root, made, False)]
    while pending:
        t, made, constant = pending.pop()
        before = t.node
        t.value = _laid_out_like(t.value, np.asarray(getattr(made, "value", made)))
        if not constant:
            t.node, t.tangents = getattr(made, "node", None), getattr(made, "tangents", None)
        storage = t._storage
        if storage is None:
            continue
        storage.version = None
        alive = [view for r in storage.views or () if (view := r()) is not None and view._storage.view_of[0] is t]
        # A view made under no_grad() of a Tensor with a history stays a constant.
        constants = [before is not None and view.node is None for view in alive]
        made_again = [primitive(t, **keywords) for _, primitive, keywords in (view._storage.view_of for view in alive)]
        storage.views = [ref(view) for view in alive]
        pending += zip(alive, made_again, constants, strict=True)
