"""Parameters that are still on their way from other ranks: whoever reads one waits for it.

After the update of a sharded optimizer each rank has its own part of the new parameters and gets the others. To wait for all of
them would leave the network idle during the next forward pass, and the forward pass idle before it. So `update` returns at
once, and a parameter is waited for when its value is read for the first time, by whatever code.

How: while a leaf is on its way, its class is a subclass of its own class in which `value` is a property. The first access waits
for the bucket that the leaf is in, gives all leaves of the bucket their class back, and goes on as usual. So nothing that reads
parameters has to know of this, and a parameter that has arrived costs nothing. Code that reads flat arrays gets them from
`FlatParameters.params`, which waits for everything. An array that a program took from `leaf.value` before the update and reads
after it is not covered: it must ask the leaf again.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from allgrad.autodiff import Tensor
    from allgrad.comm import Handle
    from allgrad.memory import FlatParameters

_waits: dict[int, Callable[[], None]] = {}
"""The id of a leaf that is on its way -> what waits for it. Its bucket holds the leaf, so the id cannot be reused."""


def let_arrive(flat: FlatParameters, buckets: Iterable[tuple[Sequence[str], Handle]]) -> None:
    """Note that parameters are on their way.

    Args:
        flat: the model's parameters. `flat.params` waits for all of them.
        buckets: the names of leaves, and the collective after which their values are complete.
    """
    waits = [_expect([flat.leaves[name] for name in names], handle) for names, handle in buckets]

    def everything() -> None:
        for wait in waits:
            wait()

    flat.wait_for(everything)


def _expect(leaves: Sequence[Tensor], handle: Handle) -> Callable[[], None]:
    kinds = [type(leaf) for leaf in leaves]

    def wait() -> None:
        handle.wait()
        for leaf, kind in zip(leaves, kinds, strict=True):  # several threads may be here
            leaf.__class__ = kind
            _waits.pop(id(leaf), None)

    for leaf in leaves:
        _waits[id(leaf)] = wait
        leaf.__class__ = _arriving(type(leaf))  # type: ignore[arg-type]  # mypy looks for Tensor's own hash
    return wait


def _wait(leaf: Tensor) -> None:
    wait = _waits.get(id(leaf))
    if wait is not None:
        wait()


@cache
def _arriving(kind: type[Tensor]) -> type[Tensor]:
    def read(leaf: Tensor) -> Any:
        _wait(leaf)
        return leaf.value

    def write(leaf: Tensor, value: Any) -> None:
        _wait(leaf)
        leaf.value = value

    return type(kind.__name__, (kind,), {"__slots__": (), "value": property(read, write)})
