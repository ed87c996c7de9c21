"""Pieces of a model that local updates average one after another: runs of whole parameters, in order of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from allgrad.memory import Layout

Fragment = dict[np.dtype[Any], slice]
"""For each dtype, the slice of the flat array."""


def cut_into_fragments(layout: Layout, fragments: int) -> list[Fragment]:
    """Runs of whole parameters of about equal size, in order of memory: for each, dtype to the slice of the flat array.

    >>> from allgrad.memory import ParameterSpec, Layout
    >>> f = np.dtype("float32")
    >>> layout = Layout.plan([ParameterSpec(n, (16,), f) for n in "abcd"])
    >>> [fragment[f] for fragment in cut_into_fragments(layout, 2)]
    [slice(0, 32, None), slice(32, 64, None)]
    """
    slots = [slot for dtype in layout.dtypes for slot in layout.in_memory_order(dtype)]
    whole = sum(slot.size * slot.dtype.itemsize for slot in slots)
    found: list[Fragment] = [{} for _ in range(fragments)]
    position, number = 0, 0
    for index, slot in enumerate(slots):
        must = len(slots) - index == fragments - number - 1  # one slot is left for each of the fragments that follow
        if number + 1 < fragments and found[number] and (must or position * fragments >= whole * (number + 1)):
            number += 1
        before = found[number].get(slot.dtype, slice(slot.offset, 0))
        found[number][slot.dtype] = slice(before.start, layout.end(slot))
        position += slot.size * slot.dtype.itemsize
    return found
