"""LAMB: Adam's direction, each parameter's step scaled to its own size. For large batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.memory import Slot
    from allgrad.optim.groups import Bounds, Group


class LAMB(Optimizer):
    """Layer-wise adaptive moments.

        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        r = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p
        p = p - lr (|p| / |r|) r               (the ratio is 1 where either norm is 0, or if not `adapt`)

    Reference: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes" (ICLR 2020), algorithm 2,
    with the identity as phi.

    Args:
        params: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`; biases and norms usually form a group
            with `weight_decay=0, adapt=False`.
        lr, betas, eps, weight_decay: as above.
        adapt: scale by |p| / |r|.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import LAMB
        >>> w = ag.tensor([3.0, -4.0], requires_grad=True)
        >>> optimizer = LAMB([w], lr=0.1)
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> w.value.round(5).tolist()
        [2.64645, -3.64645]
    """

    needs_whole_parameters: ClassVar[bool] = True
    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    bounds: ClassVar[Bounds] = {
        "lr": (0, math.inf),
        "betas": (0, math.nextafter(1, 0)),
        "eps": (0, math.inf),
        "weight_decay": (0, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        adapt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "adapt": adapt}
        super().__init__(params, defaults)

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:
        arenas = (self.flat.params, self.flat.grads, self.state["exp_avg"], self.state["exp_avg_sq"])
        p, g, m, v = (arena[slot.name].reshape(-1) for arena in arenas)
        scalar, (b1, b2) = slot.dtype.type, group.betas
        m *= scalar(b1)
        m += scalar(1 - b1) * g
        v *= scalar(b2)
        v += scalar(1 - b2) * g * g
        r = np.sqrt(v * scalar(1 / (1 - b2**step)))
        r += scalar(group.eps)
        np.divide(m * scalar(1 / (1 - b1**step)), r, out=r)
        if group.weight_decay:
            r += scalar(group.weight_decay) * p
        ratio = 1.0
        if group.adapt:
            size, length = norm(p), norm(r)
            ratio = size / length if size > 0 and length > 0 else 1.0
        r *= scalar(group.lr * ratio)
        p -= r
