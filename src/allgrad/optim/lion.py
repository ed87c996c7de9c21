"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allgrad.kernels.blocks import scratch, spans
from allgrad.optim.optimizer import Optimizer, Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.optim.groups import Bounds


class Lion(Optimizer):
    """Lion (evolved sign momentum) with decoupled weight decay.

        u = sign(b1 m + (1 - b1) g)
        p = p - lr (u + weight_decay p)
        m = b2 m + (1 - b2) g

    Reference: Chen et al., "Symbolic Discovery of Optimization Algorithms" (NeurIPS 2023), algorithm 2. Its learning rate is
    typically 3 to 10 times smaller than AdamW's, and its weight decay as many times larger.

    Args:
        params: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: learning rate.
        betas: b1 and b2, each 0 or more and below 1.
        weight_decay: as above.

    Raises:
        ValueError: for a setting out of range.

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
    bounds: ClassVar[Bounds] = {
        "lr": (0, math.inf),
        "betas": (0, math.nextafter(1, 0)),
        "weight_decay": (0, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

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
