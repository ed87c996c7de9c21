"""LARS: SGD with momentum, each parameter's gradient scaled to the parameter's size. For large batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.memory import Slot
    from allgrad.optim.groups import Bounds, Group


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling.

        q = trust |p| / (|g| + weight_decay |p|)        (1 where either norm is 0, or if not `adapt`)
        u = momentum u + lr q (g + weight_decay p)
        p = p - u

    Reference: You, Gitman & Ginsburg, "Large Batch Training of Convolutional Networks" (2017), algorithm 1.

    Args:
        params: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`; biases and norms usually form a group
            with `weight_decay=0, adapt=False`.
        lr, momentum, weight_decay, trust: as above.
        adapt: scale by q.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import LARS
        >>> w = ag.tensor([3.0, -4.0], requires_grad=True)
        >>> optimizer = LARS([w], lr=1.0, trust=0.1)
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> w.value.round(6).tolist()
        [2.7, -3.6]
    """

    needs_whole_parameters: ClassVar[bool] = True
    moments: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    bounds: ClassVar[Bounds] = {
        "lr": (0, math.inf),
        "momentum": (0, 1),
        "weight_decay": (0, math.inf),
        "trust": (0, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": adapt}
        super().__init__(params, defaults)

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:  # noqa: ARG002  # LARS does not count steps
        p, g = self.flat.params[slot.name], self.flat.grads[slot.name]
        u, scalar = self.state["momentum_buffer"][slot.name], slot.dtype.type
        ratio = 1.0
        if group.adapt:
            size, slope = norm(p), norm(g)
            if size > 0 and slope > 0:
                ratio = group.trust * size / (slope + group.weight_decay * size)
        d = g * scalar(group.lr * ratio)
        if group.weight_decay:
            d += p * scalar(group.lr * ratio * group.weight_decay)
        u *= scalar(group.momentum)
        u += d
        p -= u
