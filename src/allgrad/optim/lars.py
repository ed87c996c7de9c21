"""LARS: SGD with momentum, with each parameter's gradient scaled to the size of the parameter. For large batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer
from allgrad.optim.settings import Beta, NonNegative

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.memory import Slot
    from allgrad.optim.groups import Group


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling.

        q = trust |p| / (|g| + weight_decay |p|)        (1 if either norm is 0, or without `adapt`)
        u = momentum u + lr q (g + weight_decay p)
        p = p - u

    Reference: You, Gitman & Ginsburg, "Large Batch Training of Convolutional Networks" (2017), algorithm 1.

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`. Biases and norms usually form
            a group with `weight_decay=0, adapt=False`.
        lr: learning rate.
        momentum: weight of the old momentum buffer.
        weight_decay: factor of the parameters that is added to their gradients.
        trust: the step's size relative to the parameter's, for lr = 1.
        adapt: scale each parameter's gradient by q.

    Raises:
        SettingError: if a setting is out of range.

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

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: NonNegative,
        momentum: Beta = 0.9,
        weight_decay: NonNegative = 0.0,
        trust: NonNegative = 0.001,
        adapt: bool = True,
    ) -> None:
        super().__init__(params, locals())

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
