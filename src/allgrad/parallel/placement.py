"""Where parameters and optimizer state are: once per node, in memory that its ranks share, or once per rank.

The rule of `memory="auto"`, by size and never by timing: once per node, if some node has several ranks, the exchange is the exact
one, the system can share memory, and the parameters are at least `WORTHWHILE` bytes. Smaller models fit into the caches of every
core, and gain nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from allgrad.comm import node_memory
from allgrad.errors import CollectiveError
from allgrad.memory import home_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad import nn
    from allgrad.autodiff import Tensor
    from allgrad.comm import World
    from allgrad.parallel.exchanges import Exchange

WORTHWHILE = 1 << 20
"""Bytes of parameters from which `auto` shares them."""


class PlacementError(CollectiveError, ValueError):
    """`memory="node"` was asked for, and is not possible."""


@dataclass(frozen=True)
class Placement:
    """Where parameters and optimizer state are.

    Attributes:
        memory: "node" or "rank".
        why: the reason, in words.
    """

    memory: Literal["node", "rank"]
    why: str


def choose_placement(
    wanted: Literal["auto", "node", "rank"], model: nn.Module, world: World, exchange: Exchange, *, moves: bool = False
) -> Placement:
    """The placement of a model, the same on all ranks, which call this together.

    Args:
        moves: the parameters can be moved, wherever they are now.

    Raises:
        PlacementError: "node" is wanted and not possible; on every rank.
    """
    if world.size == world.nodes:
        return Placement("rank", "each node has one rank")
    unshareable = node_memory.reason_against() or world.open_board()
    if wanted == "rank":
        return Placement("rank", "as configured")
    leaves = list(model.parameters())
    refusals = world.all_gather_json(_reason_against(leaves, exchange, moves=moves) or unshareable)
    reason = next((f"{text} (rank {rank})" for rank, text in enumerate(refusals) if text), "")
    if wanted == "node":
        if reason:
            raise PlacementError(f"memory='node' is not possible: {reason}. Use 'rank', or 'auto'.")
        return Placement("node", "as configured")
    size = sum(leaf.nbytes for leaf in leaves)
    if not reason and size < WORTHWHILE:
        reason = f"the parameters are smaller than {WORTHWHILE >> 20} MiB"
    if reason:
        return Placement("rank", reason)
    return Placement("node", f"{world.size} ranks on {world.nodes} node(s), {size / 2**20:.1f} MiB of parameters")


def _reason_against(leaves: Sequence[Tensor], exchange: Exchange, *, moves: bool) -> str:
    """Why this rank cannot share the model's memory, in words; "" if it can."""
    if not exchange.in_shared_memory:
        return f"the exchange {type(exchange).__name__} needs each rank's own gradients"
    if not moves and any((home := home_of(leaf)) is not None and home.sharing.ranks == 1 for leaf in leaves):
        return "the parameters are in this rank's own memory already (make DataParallel before the optimizer)"
    return ""
