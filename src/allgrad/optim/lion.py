"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allgrad.kernels.blocks import scratch, spans
from allgrad.optim.optimizer import Optimizer, Run
from allgrad.optim.settings import Beta, NonNegative

if TYPE_CHECKING:
    from collections.abc import Iterable


class Lion(Optimizer):
    """Lion (evolved sign momentum) with decoupled weight decay.

        u = sign(b1 m + (1 - b1) g)
        p = p - lr (u + weight_decay p)
        m = b2 m + (1 - b2) g

    Reference: Chen et al., "Symbolic Discovery of Optimization Algorithms" (NeurIPS 2023), algorithm 2. Its learning rate is
    typically 3 to 10 times smaller than AdamW's, and its weight decay as many times larger.

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: learning rate.
        betas: weights of the old momentum in the direction (b1) and in the new momentum (b2).
        weight_decay: share of the parameters, times lr, that is taken away in each step.

    Raises:
        SettingError: if a setting is out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import Lion
        >>> w = ag.tensor([1.0, -2.0, 0.0], requires_grad=True)
        >>> optimizer = Lion([w], lr=0.25)
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> w.tolist()
        [0.75, -1.75, 0.0]
    """

    moments: ClassVar[tuple[str, ...]] = ("exp_avg",)

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: NonNegative = 1e-4,
        betas: tuple[Beta, Beta] = (0.9, 0.99),
        weight_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())

    def _update_run(self, run: Run, step: int) -> None:  # noqa: ARG002  # Lion does not count steps
        group, scalar = run.group, run.dtype.type
        p, g, m = self._slices(run, "exp_avg")
        b1, b2 = group.betas
        for span in spans(p.size):
            p_, g_, m_ = p[span], g[span], m[span]
            a, b = scratch(run.dtype, 0, p_.shape), scratch(run.dtype, 1, p_.shape)
            np.multiply(m_, scalar(b1), a)
            np.multiply(g_, scalar(1 - b1), b)
            np.sign(np.add(a, b, a), a)
            np.multiply(a, scalar(group.lr), a)
            if group.weight_decay:
                np.multiply(p_, scalar(1 - group.lr * group.weight_decay), p_)
            np.subtract(p_, a, p_)
            np.multiply(m_, scalar(b2), m_)
            np.multiply(g_, scalar(1 - b2), b)
            np.add(m_, b, m_)
