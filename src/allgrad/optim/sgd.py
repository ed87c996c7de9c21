"""Stochastic gradient descent with momentum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from allgrad import kernels
from allgrad.memory import Arena
from allgrad.optim.optimizer import Optimizer, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allgrad.optim.groups import Bounds


class SGD(Optimizer):
    """SGD with momentum, dampening, Nesterov momentum and (coupled) weight decay, equal to `torch.optim.SGD`.

        d = g + weight_decay p
        u = momentum u + (1 - dampening) d          (u = d in a parameter's first step)
        p = p - lr (d + momentum u  if nesterov else  u)

    Reference: Sutskever, Martens, Dahl & Hinton, "On the importance of initialization and momentum in deep learning"
    (ICML 2013), in PyTorch's form, where lr multiplies the buffer.

    Args:
        params: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: learning rate.
        momentum, dampening, weight_decay: as above.
        nesterov: needs momentum and no dampening.

    Raises:
        ValueError: for a setting out of range.

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

    bounds: ClassVar[Bounds] = {
        "lr": (0, math.inf),
        "momentum": (0, 1),
        "dampening": (0, 1),
        "weight_decay": (0, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)
        self._prepare([group.options for group in self.groups])

    def _check(self, options: Mapping[str, Any]) -> None:
        super()._check(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and no dampening.")

    def _prepare(self, groups: list[dict[str, Any]]) -> None:
        # Without momentum there is no buffer to hold, to shard, or to save.
        if any(group["momentum"] for group in groups) and "momentum_buffer" not in self.state:
            self.state["momentum_buffer"] = Arena(self.flat.layout)

    def _update_run(self, run: Run, step: int) -> None:
        group = run.group
        if group.momentum:
            self._prepare([group.options])
            p, g, buffer = self._slices(run, "momentum_buffer")
        else:
            (p, g), buffer = self._slices(run), None
        kernels.active().sgd(
            p,
            g,
            buffer,
            first=step == 1,
            lr=group.lr,
            momentum=group.momentum,
            dampening=group.dampening,
            nesterov=group.nesterov,
            weight_decay=group.weight_decay,
        )
