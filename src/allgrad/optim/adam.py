"""Adam and AdamW: one update, two ways to decay weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from allgrad import kernels
from allgrad.optim.optimizer import Optimizer, Run
from allgrad.optim.settings import Beta, NonNegative

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Adam(Optimizer):
    """The update that Adam and AdamW share."""

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    _decoupled: ClassVar[bool]

    def _update_run(self, run: Run, step: int) -> None:
        options = run.group.options
        beta1, beta2 = options["betas"]
        kernels.active().adam(
            *self._slices(run, *self.moments),
            step=step,
            lr=options["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=options["eps"],
            weight_decay=options["weight_decay"],
            decoupled=self._decoupled,
        )


class Adam(_Adam):
    """Adam with L2 regularisation, equal to `torch.optim.Adam`.

        g = g + weight_decay p
        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Reference: Kingma & Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015).

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: learning rate.
        betas: weights of the old values in the running means of the gradient (b1) and of its square (b2).
        eps: added to the denominator.
        weight_decay: factor of the parameters that is added to their gradients.

    Raises:
        SettingError: if a setting is out of range.

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

    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: NonNegative = 1e-3,
        betas: tuple[Beta, Beta] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())


class AdamW(_Adam):
    """Adam with decoupled weight decay, equal to `torch.optim.AdamW`.

        p = (1 - lr weight_decay) p, then Adam's update with the gradient as it is

    Reference: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019).

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`. Biases and norms usually form
            a group with `weight_decay=0`.
        lr: learning rate.
        betas: weights of the old values in the running means of the gradient (b1) and of its square (b2).
        eps: added to the denominator.
        weight_decay: share of the parameters, times lr, that is taken away in each step.

    Raises:
        SettingError: if a setting is out of range.

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
        lr: NonNegative = 1e-3,
        betas: tuple[Beta, Beta] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 1e-2,
    ) -> None:
        super().__init__(params, locals())
