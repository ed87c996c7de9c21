"""Which operations are recorded inside a context.

An operation makes a plan for its backward pass when it is first recorded with a given set of tracked arguments, and keeps it. So
the context forgets all plans when it begins, and those that have one when it ends were recorded inside: in recomputed regions, in
inner transforms and by all threads. The operations themselves do nothing for it, so it costs nothing anywhere else.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from allgrad.autodiff.primitive import PRIMITIVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allgrad.autodiff.primitive import Primitive


@contextmanager
def recorded_operations() -> Iterator[list[Primitive]]:
    """A context in which operations are noted; its list has them when the context has ended, in no order.

    >>> import numpy as np, allgrad as ag
    >>> from allgrad.autodiff.recorded import recorded_operations
    >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
    >>> with recorded_operations() as found:
    ...     y = np.sum(np.exp(x))
    >>> sorted(operation.name for operation in found)
    ['exp', 'sum']
    """
    found: list[Primitive] = []
    for operation in list(PRIMITIVES):
        operation.plans.clear()
    yield found
    found.extend(operation for operation in list(PRIMITIVES) if operation.plans)
