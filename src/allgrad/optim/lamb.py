"""LAMB: Adam's direction, with each parameter's step scaled to the size of the parameter. For large batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allgrad.kernels.portable_math import power
from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer
from allgrad.optim.settings import Beta, NonNegative

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.memory import Slot
    from allgrad.optim.groups import Group


class LAMB(Optimizer):
    """Layer-wise adaptive moments.

        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        r = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p
        p = p - lr (|p| / |r|) r               (ratio 1 if either norm is 0, or without `adapt`)

    Reference: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes" (ICLR 2020), algorithm 2,
    with the identity as phi.

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`. Biases and norms usually form
            a group with `weight_decay=0, adapt=False`.
        lr: learning rate.
        betas: weights of the old values in the running means of the gradient (b1) and of its square (b2).
        eps: added to the denominator.
        weight_decay: factor of the parameters that is added to the direction r.
        adapt: scale each parameter's step by |p| / |r|.

    Raises:
        SettingError: if a setting is out of range.

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

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: NonNegative = 1e-3,
        betas: tuple[Beta, Beta] = (0.9, 0.999),
        eps: NonNegative = 1e-6,
        weight_decay: NonNegative = 0.0,
        adapt: bool = True,
    ) -> None:
        super().__init__(params, locals())

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:
        arenas = (self.flat.params, self.flat.grads, self.state["exp_avg"], self.state["exp_avg_sq"])
        p, g, m, v = (arena[slot.name].reshape(-1) for arena in arenas)
        scalar, (b1, b2) = slot.dtype.type, group.betas
        m *= scalar(b1)
        m += scalar(1 - b1) * g
        v *= scalar(b2)
        v += scalar(1 - b2) * g * g
        r = np.sqrt(v * scalar(1 / (1 - power(b2, step))))
        r += scalar(group.eps)
        np.divide(m * scalar(1 / (1 - power(b1, step))), r, out=r)
        if group.weight_decay:
            r += scalar(group.weight_decay) * p
        ratio = 1.0
        if group.adapt:
            size, length = norm(p), norm(r)
            ratio = size / length if size > 0 and length > 0 else 1.0
        r *= scalar(group.lr * ratio)
        p -= r
