"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import kernels
from allgrad.optim.optimizer import Optimizer, Run
from allgrad.optim.settings import Beta, Fraction, NonNegative, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Array = np.ndarray[Any, np.dtype[Any]]


class SGD(Optimizer):
    """SGD with momentum, dampening, Nesterov momentum, and (coupled) weight decay, equal to `torch.optim.SGD`.

        d = g + weight_decay p
        u = momentum u + (1 - dampening) d          (u = d in a parameter's first step)
        p = p - lr (d + momentum u  if nesterov else  u)

    Reference: Sutskever, Martens, Dahl & Hinton, "On the importance of initialization and momentum in deep learning"
    (ICML 2013), in PyTorch's form, where lr multiplies the buffer.

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: learning rate.
        momentum: weight of the old momentum buffer; 0 for none.
        dampening: how much less the gradient weighs in the buffer.
        weight_decay: factor of the parameters that is added to their gradients.
        nesterov: look ahead along the momentum; needs momentum and no dampening.

    Raises:
        SettingError: if a setting is out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import SGD
        >>> w = ag.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = SGD([w], lr=0.1)
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> w.tolist()
        [0.8, -1.6]
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: NonNegative,
        momentum: Beta = 0.0,
        dampening: Fraction = 0.0,
        weight_decay: NonNegative = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def _check(self, options: Mapping[str, Any]) -> None:
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise SettingError("SGD: nesterov needs a momentum above 0 and no dampening.")

    def moments_of(self, name: str, options: Mapping[str, Any]) -> dict[str, Array]:
        """`momentum_buffer`; nothing without momentum."""
        return {"momentum_buffer": self._arena("momentum_buffer")[name]} if options["momentum"] else {}

    def _update_run(self, run: Run, step: int) -> None:
        group = run.group
        p, g, *buffer = self._slices(run, *(["momentum_buffer"] if group.momentum else []))
        kernels.active().sgd(
            p,
            g,
            buffer[0] if buffer else None,
            first=step == 1,
            lr=group.lr,
            momentum=group.momentum,
            dampening=group.dampening,
            nesterov=group.nesterov,
            weight_decay=group.weight_decay,
        )
