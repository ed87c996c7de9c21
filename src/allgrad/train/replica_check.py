"""Do all ranks still hold the same bits? A check for silent corruption of a replica's memory.

The ranks of a run hold the same weights, optimizer state and averages, bit for bit. A bit that flips in one rank's memory, or a
CPU that computes wrongly, breaks that without any error: the rank computes its workers' gradients from other weights, and the
sums that everybody uses are wrong from then on. With `parallel.verify_every: k` the ranks compare fingerprints every k steps,
and before each checkpoint, so that no checkpoint holds what was not compared. If they differ, the run ends; with --survive it
goes on from the newest checkpoint without the rank that differs (survive.py).

A fingerprint is the CRC-32 of the sums of 32-KiB blocks as 64-bit integers. It reads memory once. A flipped bit always changes
it; two errors that cancel each other inside one block do not.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.comm.agreement import format_ranks
from allgrad.errors import CollectiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from allgrad.comm import World
    from allgrad.optim import EMA, Optimizer
    from allgrad.parallel import DataParallel

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["CorruptionError", "ReplicaCheck", "fingerprint"]

_BLOCK = 4096  # words of 8 bytes


class CorruptionError(CollectiveError):
    """Ranks that must hold the same bits do not.

    Args:
        found: what differs on which ranks, in words.
        odd: the ranks that differ from the majority; empty if some part has none.
    """

    def __init__(self, found: str, odd: Collection[int] = ()) -> None:
        super().__init__(
            f"{found}\nThe memory or the CPU of a machine may be faulty, or something wrote into the arrays. Nothing was saved "
            "since the last comparison: `allgrad resume` continues from a checkpoint in which all ranks agreed."
        )
        self.found, self.odd = found, frozenset(odd)


def fingerprint(arrays: Iterable[Array]) -> int:
    """32 bits that change with every flipped bit of the arrays.

    Args:
        arrays: C-contiguous.

    Example:
        >>> a = np.ones(100, np.float32)
        >>> b = a.copy()
        >>> b.view(np.uint32)[42] ^= 1
        >>> fingerprint([a]) == fingerprint([a.copy()]), fingerprint([a]) == fingerprint([b])
        (True, False)
    """
    crc = 0
    for array in arrays:
        content = array.reshape(-1).view(np.uint8)
        words = content[: content.size // 8 * 8].view(np.uint64)
        whole = words.size // _BLOCK * _BLOCK
        sums = np.add.reduce(words[:whole].reshape(-1, _BLOCK), axis=1)
        rest = np.add.reduce(words[whole:], keepdims=True)
        for part in (sums, rest, content[words.size * 8 :]):
            crc = zlib.crc32(part.tobytes(), crc)
    return crc


class ReplicaCheck:
    """Compares the replicas of a run.

    Args:
        world: the ranks.
        parts: what must be the same on all ranks: name -> a function that gives its arrays.
        every: steps between comparisons.
    """

    def __init__(self, world: World, parts: Mapping[str, Callable[[], Iterable[Array]]], every: int) -> None:
        self.world, self.parts, self.every = world, dict(parts), every
        self.checked = -1

    @classmethod
    def of(cls, replica: DataParallel, optimizer: Optimizer, ema: EMA | None, every: int | None) -> ReplicaCheck | None:
        """The check of a run, or None if it makes none (`every` is None)."""
        if every is None:
            return None
        parts: dict[str, Callable[[], Iterable[Array]]] = {
            "weights": lambda: replica.flat.params.flat.values(),
            "buffers": lambda: [buffer for _, buffer in replica.model.named_buffers()],
        }
        if replica.exchange.synchronous:  # or else each rank has a state of its own
            parts["optimizer state"] = lambda: [a for arena in optimizer.state.values() for a in arena.flat.values()]
        if ema is not None:
            parts["averaged weights"] = ema.average.flat.values
        return cls(replica.world, parts, every)

    def on_step(self, step: int) -> None:
        """`check`, if it is due after so many steps."""
        if step % self.every == 0:
            self.check(step)

    def check(self, step: int) -> None:
        """Compare, unless this step's state was compared already; all ranks call it together.

        Args:
            step: the number of steps done.

        Raises:
            CorruptionError: on every rank; names what differs, and the ranks that are alone with it.
        """
        if self.checked == step:
            return
        mine = np.array([fingerprint(arrays()) for arrays in self.parts.values()], np.uint32)
        everyone = self.world.all_gather(mine)
        if (everyone == everyone[0]).all():
            self.checked = step
            return
        hosts = self.world.all_gather_json(self.world.host)
        lines, odd, certain = [], set(), True
        for name, column in zip(self.parts, everyone.T, strict=True):
            if (column != column[0]).any():
                groups = _groups(column.tolist())
                lines.append(_describe(name, groups, hosts))
                odd |= {rank for group in groups[1:] for rank in group}
                certain &= len(groups[0]) > len(groups[1])
        found = f"After {step} steps the ranks no longer hold the same bits:\n" + "\n".join(lines)
        raise CorruptionError(found, odd if certain else ())


def _groups(prints: list[int]) -> list[list[int]]:
    """The ranks that agree with each other; the largest group first."""
    members: dict[int, list[int]] = {}
    for rank, one in enumerate(prints):
        members.setdefault(one, []).append(rank)
    return sorted(members.values(), key=len, reverse=True)


def _describe(name: str, groups: list[list[int]], hosts: list[str]) -> str:
    """Which ranks differ from the others in one part."""
    if len(groups[0]) == len(groups[1]):
        return f"  {name}: " + " and ".join(map(format_ranks, groups)) + " differ, and none of them is in the majority"
    odd = sorted(rank for group in groups[1:] for rank in group)
    where = ", ".join(sorted({hosts[rank] for rank in odd}))
    return f"  {name}: {format_ranks(odd)} on {where} {'differs' if len(odd) == 1 else 'differ'} from the others"
