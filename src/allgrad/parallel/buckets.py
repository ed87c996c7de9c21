"""Buckets: the slices of the flat gradient in which gradients travel.

A bucket is a run of neighbouring slots of one dtype. Slots are in reverse order of registration, which is roughly the order
in which backward finishes them, so bucket 0 is ready first; it is small, so that communication starts early. The plan depends
only on the layout and the sizes, so it is the same on every rank. It changes no bit of the result: the tree adds elementwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from allgrad.memory import Layout

MIB = 1 << 20


@dataclass(frozen=True)
class Bucket:
    """The elements [start, stop) of a dtype's flat array, and the names of the parameters there."""

    index: int
    dtype: np.dtype[Any]
    start: int
    stop: int
    names: tuple[str, ...]

    @cached_property
    def label(self) -> str:
        """The bucket in words, for reports."""
        others = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return f"{self.index} ({self.names[0]}{others})"

    @cached_property
    def nbytes(self) -> int:
        return (self.stop - self.start) * self.dtype.itemsize

    def of(self, flat: dict[np.dtype[Any], np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """This bucket's slice of an arena's flat arrays."""
        return flat[self.dtype][self.start : self.stop]


def default_bucket_mb(nodes: int) -> float:
    """The default size of a bucket in MiB: 25 inside one node, 1 between nodes.

    The last bucket has nothing to hide behind. Between nodes 1 MiB takes long (8 ms at 1 Gbit/s), and one more bucket costs a
    rank only about 80 us. Inside a node the communication takes no longer than that, so fewer buckets are better.
    """
    return 25.0 if nodes == 1 else 1.0


def plan_buckets(layout: Layout, bucket_mb: float, first_mb: float) -> tuple[Bucket, ...]:
    """Cut a layout into buckets.

    Args:
        layout: of the gradients.
        bucket_mb: a bucket is closed as soon as it holds this many MiB.
        first_mb: the same for the first bucket of each dtype.

    Raises:
        ValueError: a size is not positive.

    >>> import numpy as np
    >>> from allgrad.memory import Layout, ParameterSpec
    >>> f = np.dtype("float32")
    >>> layout = Layout.plan([ParameterSpec(n, (1 << 18,), f) for n in "abcd"])  # 1 MiB each
    >>> [bucket.names for bucket in plan_buckets(layout, bucket_mb=2, first_mb=1)]
    [('d',), ('c', 'b'), ('a',)]
    """
    for name, size in (("bucket_mb", bucket_mb), ("first_mb", first_mb)):
        if not size > 0:
            raise ValueError(f"The {name} parameter of plan_buckets must be more than 0 MiB. Got {size!r} instead.")
    buckets: list[Bucket] = []
    for dtype in layout.dtypes:
        slots = layout.in_memory_order(dtype)
        limit = min(first_mb, bucket_mb) * MIB
        names: list[str] = []
        start = 0
        for i, slot in enumerate(slots):
            names.append(slot.name)
            stop = layout.end(slot)
            if (stop - start) * dtype.itemsize >= limit or i == len(slots) - 1:
                buckets.append(Bucket(len(buckets), dtype, start, stop, tuple(names)))
                names, start, limit = [], stop, bucket_mb * MIB
    return tuple(buckets)
