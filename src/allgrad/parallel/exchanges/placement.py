"""Which ranks compute which replicas of local updates.

Either a rank computes whole replicas, or a replica has ranks of its own. Replicas and their workers are contiguous, as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from allgrad.comm import block
from allgrad.parallel.exchanges.base import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Placement(NamedTuple):
    """What one rank needs to know.

    Attributes:
        replicas: how many there are.
        size: virtual workers of a replica.
        ranks: those that compute a replica.
        mine: the replicas that this rank computes, or helps to.
        firsts: replica to the first rank that computes it.
    """

    replicas: int
    size: int
    ranks: int
    mine: range
    firsts: dict[int, int]

    @classmethod
    def plan(cls, rank: int, ranks: int, virtual_workers: int, replicas: int | None) -> Placement:
        """A function of its arguments: all ranks find the same. `replicas` is None for one per virtual worker.

        Raises:
            ExchangeError: the workers cannot be divided among the replicas, or the replicas among the ranks.

        Example:
            >>> Placement.plan(1, 2, 8, 4)
            Placement(replicas=4, size=2, ranks=1, mine=range(2, 4), firsts={0: 0, 1: 0, 2: 1, 3: 1})
            >>> Placement.plan(3, 4, 8, 2)
            Placement(replicas=2, size=4, ranks=2, mine=range(1, 2), firsts={0: 0, 1: 2})
        """
        replicas = virtual_workers if replicas is None else replicas
        if virtual_workers % replicas:
            raise ExchangeError(
                f"reduction local: {replicas} replicas cannot share {virtual_workers} virtual workers equally. "
                "Choose a divisor of batch.virtual_workers."
            )
        size = virtual_workers // replicas
        if not _fits(ranks, replicas, size):
            fitting = [r for r in range(1, virtual_workers + 1) if _fits(r, replicas, size)]
            raise ExchangeError(
                f"reduction local: {replicas} replicas of {size} virtual worker{'s' if size > 1 else ''} each do not fit on "
                f"{ranks} ranks: either a rank computes whole replicas, or a replica's ranks compute nothing else. Start "
                f"{_either(fitting)} ranks."
            )
        each = max(1, ranks // replicas)
        parts = [block(part, ranks // each, replicas) for part in range(ranks // each)]
        firsts = {replica: part * each for part, found in enumerate(parts) for replica in found}
        return cls(replicas, size, each, parts[rank // each], firsts)


def _fits(ranks: int, replicas: int, size: int) -> bool:
    """Whether each rank computes whole replicas, of `size` workers each, or each replica has ranks of its own."""
    if ranks > replicas:
        return ranks <= replicas * size and ranks % replicas == 0
    return not any(block(rank, ranks, replicas * size).start % size for rank in range(ranks))


def _either(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last
