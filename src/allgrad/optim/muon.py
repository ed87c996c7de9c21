"""Muon: momentum, made orthogonal. For the weight matrices of hidden layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer
from allgrad.optim.orientation import as_torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allgrad.memory import Slot
    from allgrad.optim.groups import Bounds, Group

Array = np.ndarray[Any, np.dtype[Any]]


class Muon(Optimizer):
    """Momentum orthogonalised by Newton-Schulz, with decoupled weight decay; `torch.optim.Muon`'s semantics.

        u = momentum u + (1 - momentum) g
        d = (1 - momentum) g + momentum u  if nesterov else  u
        p = (1 - lr weight_decay) p - lr' orthogonal(d)

    `orthogonal` runs X = a X + (b X X^T + c (X X^T)^2) X, `ns_steps` times from X = d / |d|. lr' is
    lr sqrt(max(1, rows / columns)) ("original") or 0.2 lr sqrt(max(rows, columns)) ("match_rms_adamw"), rows and columns as in
    PyTorch's layout.
    PyTorch iterates in bfloat16; here it is the parameter's dtype, so results agree to bfloat16's accuracy.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); Liu et al., "Muon is
    Scalable for LLM Training" (2025) for weight decay and `match_rms_adamw`.

    Args:
        params: matrices only: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`. Give embeddings, heads,
            biases and norms to AdamW (flatten the whole model first: `allgrad.memory.flatten`).
        lr, momentum, nesterov, weight_decay, ns_steps: as above.
        ns_coefficients: a, b and c.
        eps: smallest |d|.
        adjust_lr: "original" or "match_rms_adamw".

    Raises:
        ValueError: for a parameter that is no matrix, or a setting out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import Muon
        >>> w = ag.tensor(np.diag([2.0, 1.0]), requires_grad=True)
        >>> optimizer = Muon([w], lr=0.1, weight_decay=0.0)
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> bool(np.all(np.diag(w.value) < [2.0, 1.0]))
        True
    """

    needs_whole_parameters: ClassVar[bool] = True
    moments: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    bounds: ClassVar[Bounds] = {
        "lr": (0, math.inf),
        "momentum": (0, 1),
        "weight_decay": (0, math.inf),
        "ns_steps": (0, 99),
        "eps": (0, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        ns_steps: int = 5,
        eps: float = 1e-7,
        adjust_lr: str = "original",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "ns_coefficients": tuple(ns_coefficients),
            "ns_steps": ns_steps,
            "eps": eps,
            "adjust_lr": adjust_lr,
        }
        super().__init__(params, defaults)

    def _check(self, options: Mapping[str, Any]) -> None:
        super()._check(options)
        if options["adjust_lr"] not in ("original", "match_rms_adamw"):
            raise ValueError(
                f"Muon: adjust_lr must be 'original' or 'match_rms_adamw'. Got {options['adjust_lr']!r} instead."
            )

    def _check_slot(self, slot: Slot) -> None:
        super()._check_slot(slot)
        if len(slot.shape) != 2:
            raise ValueError(
                f"Muon: parameter {slot.name!r} of shape {slot.shape} is not a matrix; give it to another optimizer."
            )

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:  # noqa: ARG002  # Muon does not count steps
        scalar, leaf = slot.dtype.type, self.flat.leaves[slot.name]
        p, g, u = (
            as_torch(leaf, arena[slot.name])
            for arena in (self.flat.params, self.flat.grads, self.state["momentum_buffer"])
        )
        mu = scalar(group.momentum)
        u *= mu
        u += (1 - mu) * g
        d = (1 - mu) * g + mu * u if group.nesterov else u
        rows, columns = p.shape
        if group.adjust_lr == "original":
            scale = math.sqrt(max(1, rows / max(columns, 1)))
        else:
            scale = 0.2 * math.sqrt(max(rows, columns))
        if group.weight_decay:
            p *= scalar(1 - group.lr * group.weight_decay)
        p -= scalar(group.lr * scale) * orthogonalised(d, group.ns_coefficients, group.ns_steps, group.eps)


def orthogonalised(matrix: Array, coefficients: tuple[float, float, float], steps: int, eps: float) -> Array:
    """The nearest half-orthogonal matrix, roughly: same singular vectors, singular values between 0.7 and 1.2.

    The quintic Newton-Schulz iteration of the Muon reference; it works on the wide orientation, whose Gram matrix is small.
    """
    a, b, c = (matrix.dtype.type(x) for x in coefficients)
    tall = matrix.shape[0] > matrix.shape[1]
    x = np.ascontiguousarray(matrix.T if tall else matrix)
    x = x / matrix.dtype.type(max(norm(x), eps))
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return np.asarray(x.T if tall else x)
