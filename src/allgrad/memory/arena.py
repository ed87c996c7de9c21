"""Flat memory: all parameters of a replica in one array per dtype, and the layout that says where each one is.

The contract
------------
- `Layout.plan` is a pure function of the parameters' names, shapes, dtypes and groups. Every rank computes it by itself and
  gets the same layout; equal `digest()`s prove it.
- Inside a dtype's flat array the groups follow one another, as one contiguous *segment* each. A segment holds its
  parameters in **reverse** order of registration: backward finishes the last layer first, so the front of a
  segment is ready first, and a bucket of finished gradients is a plain slice.
- Every slot starts on a 64-byte boundary. The padding after a slot stays zero: updates over a whole segment read zero
  gradients there and leave zeros, and sums and norms are not changed by it.
- Nothing moves. A view stays valid for good, unless the ranks that share the memory change (`FlatParameters.move`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.memory.allocator import ALIGNMENT, Allocator, Array, aligned_zeros

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class ParameterSpec:
    """What a layout needs to know about one parameter."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    group: int = 0


@dataclass(frozen=True)
class Slot:
    """The place of one parameter: `size` elements, starting at element `offset` of its dtype's flat array."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    group: int
    offset: int
    size: int

    @property
    def stop(self) -> int:
        """One past the last element."""
        return self.offset + self.size


@dataclass(frozen=True)
class Segment:
    """All of one group's elements of one dtype, padding included: `flat[dtype][start:stop]`."""

    dtype: np.dtype[Any]
    group: int
    start: int
    stop: int


class Layout:
    """Where each parameter is in the flat arrays. Built by `Layout.plan`; never changes.

    Attributes:
        slots: one per parameter, in order of registration.
        segments: one per dtype and group, in the order of memory inside each dtype.
        dtypes: the dtypes in order of their first parameter.
    """

    def __init__(self, slots: Sequence[Slot], segments: Sequence[Segment]) -> None:
        self.slots = tuple(slots)
        self.segments = tuple(segments)
        self.dtypes = tuple(dict.fromkeys(segment.dtype for segment in segments))
        self._by_name = {slot.name: slot for slot in slots}
        self._length = {segment.dtype: segment.stop for segment in segments}

    @classmethod
    def plan(cls, specs: Sequence[ParameterSpec]) -> Layout:
        """Give each parameter its place.

        Args:
            specs: in order of registration. Names must be unique; shapes may be `()` or contain zeros.

        Raises:
            ValueError: two parameters have the same name, or a dtype has no fixed size that divides 64.

        Example:
            >>> import numpy as np
            >>> from allgrad.memory import Layout, ParameterSpec
            >>> f = np.dtype("float32")
            >>> layout = Layout.plan([ParameterSpec("w", (3, 5), f), ParameterSpec("b", (5,), f)])
            >>> [(slot.name, slot.offset, slot.size) for slot in layout.slots], layout.length(f)
            ([('w', 16, 15), ('b', 0, 5)], 32)
        """
        _check(specs)
        placed: dict[str, Slot] = {}
        segments: list[Segment] = []
        for dtype in dict.fromkeys(np.dtype(spec.dtype) for spec in specs):
            position = 0
            for group in sorted({spec.group for spec in specs if spec.dtype == dtype}):
                start = position
                for spec in reversed([spec for spec in specs if spec.dtype == dtype and spec.group == group]):
                    size = math.prod(spec.shape)
                    placed[spec.name] = Slot(spec.name, tuple(spec.shape), dtype, group, position, size)
                    position = _padded(position + size, dtype)
                segments.append(Segment(dtype, group, start, position))
        return cls([placed[spec.name] for spec in specs], segments)

    def __getitem__(self, name: str) -> Slot:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def length(self, dtype: npt.DTypeLike) -> int:
        """The number of elements of a dtype's flat array, padding included; 0 for a dtype that no parameter has."""
        return self._length.get(np.dtype(dtype), 0)

    def in_memory_order(self, dtype: npt.DTypeLike) -> list[Slot]:
        """The slots of a dtype, by increasing offset."""
        # A slot without elements has the same offset as the next one, and comes first.
        return sorted((slot for slot in self.slots if slot.dtype == np.dtype(dtype)), key=lambda s: (s.offset, s.size))

    def end(self, slot: Slot) -> int:
        """Where the slot's padding ends, which is where the next slot starts."""
        return _padded(slot.stop, slot.dtype)

    def digest(self) -> str:
        """sha256 (hex) over names, dtypes, shapes, groups and offsets: equal digests mean interchangeable arenas."""
        lines = (f"{s.name!r} {s.dtype.str} {list(s.shape)} {s.group} {s.offset}\n" for s in self.slots)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class Arena:
    """One set of flat arrays of a layout: the parameters, or the gradients, or one of the optimizer's moments.

    Args:
        layout: where each parameter is.
        allocate: where the memory comes from; see `allgrad.memory.allocator`.

    Raises:
        ValueError: the allocator returns another array than it was asked for.

    Example:
        >>> import numpy as np
        >>> from allgrad.memory import Arena, Layout, ParameterSpec
        >>> f = np.dtype("float32")
        >>> arena = Arena(Layout.plan([ParameterSpec("w", (2, 2), f), ParameterSpec("b", (2,), f)]))
        >>> arena["w"][...] = 1
        >>> int(arena.flat[f].sum()), arena["w"].base is not None
        (4, True)
    """

    def __init__(self, layout: Layout, allocate: Allocator = aligned_zeros) -> None:
        self.layout = layout
        self.place(self.new_arrays(allocate))

    def new_arrays(self, allocate: Allocator) -> dict[np.dtype[Any], Array]:
        """Other flat arrays for the same layout, of zeros."""
        lengths = {dtype: self.layout.length(dtype) for dtype in self.layout.dtypes}
        return {dtype: _checked(allocate(length, dtype), length, dtype) for dtype, length in lengths.items()}

    def place(self, flat: dict[np.dtype[Any], Array]) -> None:
        """Let these be the flat arrays; what they hold is what the arena holds."""
        self.flat = flat
        self._views = {
            slot.name: flat[slot.dtype][slot.offset : slot.stop].reshape(slot.shape) for slot in self.layout.slots
        }

    def __getitem__(self, name: str) -> Array:
        """The parameter's elements, in its shape: a view, the same object at every call."""
        return self._views[name]

    @property
    def nbytes(self) -> int:
        """Bytes of all flat arrays."""
        return sum(array.nbytes for array in self.flat.values())


def _padded(position: int, dtype: np.dtype[Any]) -> int:
    step = ALIGNMENT // dtype.itemsize
    return -(-position // step) * step


def _check(specs: Sequence[ParameterSpec]) -> None:
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise ValueError(f"Layout.plan: two parameters are named {spec.name!r}; names must be unique.")
        seen.add(spec.name)
        itemsize = np.dtype(spec.dtype).itemsize
        if itemsize == 0 or ALIGNMENT % itemsize or np.dtype(spec.dtype).hasobject:
            raise ValueError(
                f"Layout.plan: parameter {spec.name!r} has dtype {spec.dtype}, which flat memory cannot hold; "
                "use float32 or float64."
            )


def _checked(array: Array, length: int, dtype: np.dtype[Any]) -> Array:
    if array.shape != (length,) or array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(
            f"Arena: the allocator was asked for a contiguous {dtype} array of shape ({length},). "
            f"Got {array.dtype} {array.shape} instead."
        )
    if length and array.ctypes.data % ALIGNMENT:
        raise ValueError(f"Arena: the allocator's array does not start on a {ALIGNMENT}-byte boundary.")
    return array
