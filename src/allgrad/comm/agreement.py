"""Do the ranks agree? Comparing what they report, and saying in words which of them differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.errors import CollectiveError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class DisagreementError(CollectiveError):
    """Ranks differ in what must be the same on all of them."""


def compare(everyone: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The properties that are not the same on all ranks: name -> a line that says which ranks have which value.

    >>> compare([{"cpu": "A"}, {"cpu": "B"}, {"cpu": "A"}])["cpu"]
    "  cpu: 'A' on ranks 0, 2; 'B' on rank 1"
    """
    differences = {}
    for name in sorted(set().union(*everyone)):
        values: dict[str, list[int]] = {}
        for rank, properties in enumerate(everyone):
            values.setdefault(repr(properties[name]) if name in properties else "missing", []).append(rank)
        if len(values) > 1:
            groups = sorted(values.items(), key=lambda item: -len(item[1]))
            differences[name] = f"  {name}: " + "; ".join(
                f"{value} on {format_ranks(members)}" for value, members in groups
            )
    return differences


def format_ranks(members: Sequence[int]) -> str:
    """A sorted list of ranks in words, with runs shortened.

    >>> format_ranks([3]), format_ranks([0, 1, 2, 5])
    ('rank 3', 'ranks 0-2, 5')
    """
    runs: list[list[int]] = []
    for rank in members:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    texts = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}-{b}" for a, b in runs]
    return ("rank " if len(members) == 1 else "ranks ") + ", ".join(texts)
