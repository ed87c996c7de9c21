"""Adam and AdamW: one update, two ways to decay weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from allgrad import kernels
from allgrad.optim.optimizer import Optimizer, Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.optim.groups import Bounds


class Adam(Optimizer):
    """Adam with L2 regularisation, equal to `torch.optim.Adam`.

        g = g + weight_decay p
        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Reference: Kingma & Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015).

    Args:
        params: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: learning rate.
        betas: b1 and b2, each 0 or more and below 1.
        eps, weight_decay: as above.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import Adam
        >>> w = ag.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = Adam([w], lr=0.1)
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> w.value.round(6).tolist()
        [0.9, -1.9]
    """

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    bounds: ClassVar[Bounds] = {
        "lr": (0, math.inf),
        "betas": (0, math.nextafter(1, 0)),
        "eps": (0, math.inf),
        "weight_decay": (0, math.inf),
    }
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def _update_run(self, run: Run, step: int) -> None:
        options = run.group.options
        p, g, m, v = self._slices(run, "exp_avg", "exp_avg_sq")
        kernels.active().adam(
            p,
            g,
            m,
            v,
            step=step,
            lr=options["lr"],
            beta1=options["betas"][0],
            beta2=options["betas"][1],
            eps=options["eps"],
            weight_decay=options["weight_decay"],
            decoupled=self._decoupled,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay, equal to `torch.optim.AdamW`.

        p = (1 - lr weight_decay) p, then Adam's update with the gradient as it is

    Reference: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019).

    Args:
        params: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`; biases and norms usually form a group
            with `weight_decay=0`.
        lr, betas, eps: as in `Adam`.
        weight_decay: 0.01 by default.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import AdamW
        >>> w, b = ag.tensor([1.0, -2.0], requires_grad=True), ag.tensor(1.0, requires_grad=True)
        >>> optimizer = AdamW([{"params": [w]}, {"params": [b], "weight_decay": 0.0}], lr=0.1, weight_decay=0.1)
        >>> np.sum(w * w * b).backward()
        >>> optimizer.step()
        >>> w.value.round(6).tolist(), b.value.round(6).tolist()
        ([0.89, -1.88], 0.9)
    """

    _decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
