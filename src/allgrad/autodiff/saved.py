"""The keeper: what the tape does so that nobody can change the numbers that backward needs.

Whatever backward needs has one of four owners:

* The result of an operation belongs to the tape, and users only ever get copies or read-only views of it. An in-place operation
  on a Tensor gives that Tensor new memory and leaves the old memory as it is (aliases.py).
* A leaf's memory is written by optimizers and by `p -= lr * p.grad`. Each such write notes its time in the leaf's version, which
  a node that saved the memory keeps; backward raises `SavedArrayError` if it came after the node (`check_versions`).
* An array of the user's (an argument, an index, a label, a mask, an argument of a recomputed region) can be written at any time,
  through any view of it. So the tape saves a copy of its own, and later writes change no gradient (`keep`).
* An array that is read-only and owns its memory, or is a view of such an array, is used as it is. So is the one given to
  `ag.tensor(..., copy=False)`. These are the two ways to hand over a large array without a copy.

Why copies: one pass at 8 to 24 GB/s (EPYC, 16 MB to 1 MB). A checksum that notices rows that changed places runs at 4 to 5,
and is needed twice. Locking the user's array and its base costs no pass, but views that exist already can still be written.

An array that several operations save is copied once: it is compared with the copy first (8 to 20 GB/s).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from allgrad.autodiff.errors import SavedArrayError

if TYPE_CHECKING:
    from allgrad.autodiff.node import Node

Array = np.ndarray[Any, Any]

SMALL = 1 << 16
"""Bytes up to which looking for an earlier copy (5 microseconds of Python) costs more than another copy."""


_copies: WeakValueDictionary[int, Array] = WeakValueDictionary()
"""By id of the original. Only a hint: the contents are compared before a copy is used again."""


def keep(array: Array) -> Array:
    """An array with the contents of `array` that nobody else can write."""
    flags = array.flags
    if not flags.writeable:
        owner = array if flags.owndata else array.base
        if type(owner) is np.ndarray and owner.flags.owndata and not owner.flags.writeable:
            return array
    if array.nbytes <= SMALL:
        return array.copy("K")
    found = _copies.get(id(array))
    if found is not None and _same(found, array):
        return found
    made = _copies[id(array)] = array.copy("K")
    return made


KEPT = (np.ndarray, tuple, list)
"""The types of arguments in which `keep_all` may find something to keep."""


def keep_all(value: Any) -> Any:
    """`value` with the arrays in it kept, in tuples and lists too."""
    if isinstance(value, np.ndarray):
        return keep(value)
    if type(value) in (tuple, list):
        return type(value)(keep_all(item) for item in value)
    return value


def _same(a: Array, b: Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype or a.strides != b.strides or not a.flags.forc or a.dtype.hasobject:
        return False
    word = np.uint8 if a.nbytes % 8 else np.uint64
    left, right = ((x if x.flags.c_contiguous else x.T).reshape(-1).view(word) for x in (a, b))
    return np.array_equal(left, right)


def check_versions(node: Node) -> None:
    """Raise `SavedArrayError` if a leaf that `node` saved has been written since."""
    for version in node.guards or ():
        if version.written > node.seq:
            where = f" (called at {node.origin})" if node.origin else ""
            raise SavedArrayError(
                f"{node.plan.name if node.plan else 'an operation'}{where} saved a leaf (a parameter) of shape "
                f"{version.shape}, or a view of one, and it has been written since, so its derivative would be wrong. Call "
                "backward() before the optimizer's step, assign() or a write under no_grad()."
            )
