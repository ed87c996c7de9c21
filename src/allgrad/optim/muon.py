"""Muon: orthogonalized momentum for the weight matrices of hidden layers, AdamW for all other parameters."""

from __future__ import annotations

import fnmatch
import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le

from allgrad import kernels
from allgrad.optim.layouts import from_torch, to_torch
from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer
from allgrad.optim.settings import Beta, NonNegative, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allgrad.memory import Slot
    from allgrad.optim.groups import Group

Array = np.ndarray[Any, np.dtype[Any]]


class Muon(Optimizer):
    """Momentum orthogonalized by Newton-Schulz iteration, with decoupled weight decay; equal to `torch.optim.Muon`.

        u = momentum u + (1 - momentum) g
        d = (1 - momentum) g + momentum u  if nesterov else  u
        p = (1 - lr weight_decay) p - lr' orthogonal(d)

    `orthogonal` runs X = a X + (b X X^T + c (X X^T)^2) X, `ns_steps` times from X = d / |d|. lr' is
    lr sqrt(max(1, rows / columns)) for `adjust_lr="original"`, and 0.2 lr sqrt(max(rows, columns)) for "match_rms_adamw",
    with rows and columns of PyTorch's layout. A convolution's kernel counts as a matrix (out, in * height * width).
    PyTorch iterates in bfloat16; here it is the parameter's dtype, so the results agree to the precision of bfloat16.

    The method is for the matrices of hidden layers. Embeddings, parameters with fewer than two axes, and matrices whose names
    match `adamw` are updated by AdamW with learning rate `lr * adamw_lr_ratio`, as the authors recommend for embeddings,
    heads, biases, and norms.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); Liu et al., "Muon is
    Scalable for LLM Training" (2025) for weight decay and `match_rms_adamw`.

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: learning rate.
        momentum: weight of the old momentum buffer.
        nesterov: look ahead along the momentum.
        weight_decay: share of the parameters, times the learning rate, that is taken away in each step.
        ns_coefficients: a, b, and c of the iteration.
        ns_steps: number of iterations, at most 99.
        eps: smallest norm by which the matrix is divided.
        adjust_lr: how the step depends on the matrix's shape; with "match_rms_adamw", learning rates of AdamW carry over.
        others: what happens to parameters that the method is not for: AdamW updates them, or an error.
        adamw: names (patterns with `*` and `?`) of matrices that AdamW updates.
        adamw_lr_ratio: AdamW's learning rate, relative to `lr`.
        adamw_betas: AdamW's `betas`.
        adamw_eps: added to AdamW's denominator.

    Raises:
        SettingError: if a setting is out of range, or with `others="refuse"` for a parameter that the method is not for.

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
    moments: ClassVar[tuple[str, ...]] = ("momentum_buffer", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: NonNegative = 1e-3,
        momentum: Beta = 0.95,
        nesterov: bool = True,
        weight_decay: NonNegative = 0.1,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        ns_steps: Annotated[int, Ge(0), Le(99)] = 5,
        eps: NonNegative = 1e-7,
        adjust_lr: Literal["original", "match_rms_adamw"] = "original",
        others: Literal["adamw", "refuse"] = "adamw",
        adamw: tuple[str, ...] = ("head.*",),
        adamw_lr_ratio: NonNegative = 1.0,
        adamw_betas: tuple[Beta, Beta] = (0.9, 0.95),
        adamw_eps: NonNegative = 1e-8,
    ) -> None:
        super().__init__(params, locals())

    def _check_slot(self, slot: Slot) -> None:
        super()._check_slot(slot)
        options = self._group_of[slot.name].options
        if options["others"] == "refuse" and not self._orthogonalizes(slot.name, options):
            raise SettingError(
                f"Muon: parameter {slot.name!r} of shape {slot.shape} is not the matrix of a hidden layer. "
                "Give it to another optimizer, or set others='adamw'."
            )

    def _orthogonalizes(self, name: str, options: Mapping[str, Any]) -> bool:
        """Whether the parameter gets Muon's update, and not AdamW's."""
        leaf = self.flat.leaves[name]
        named = any(fnmatch.fnmatchcase(name, pattern) for pattern in options["adamw"])
        return leaf.ndim >= 2 and not getattr(leaf, "embedding", False) and not named

    def moments_of(self, name: str, options: Mapping[str, Any]) -> dict[str, Array]:
        """`momentum_buffer`, or AdamW's `exp_avg` and `exp_avg_sq`."""
        moments = self.moments[:1] if self._orthogonalizes(name, options) else self.moments[1:]
        return {moment: self.state[moment][name] for moment in moments}

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:
        p, g, moments = self.flat.params[slot.name], self.flat.grads[slot.name], self._moments(slot.name)
        if "momentum_buffer" not in moments:
            kernels.active().adam(
                *(array.reshape(-1) for array in (p, g, *moments.values())),
                step=step,
                lr=group.lr * group.adamw_lr_ratio,
                beta1=group.adamw_betas[0],
                beta2=group.adamw_betas[1],
                eps=group.adamw_eps,
                weight_decay=group.weight_decay,
                decoupled=True,
            )
            return
        scalar, u = slot.dtype.type, moments["momentum_buffer"]
        mu = scalar(group.momentum)
        u *= mu
        u += (1 - mu) * g
        d = to_torch(self.flat.leaves[slot.name], (1 - mu) * g + mu * u if group.nesterov else u)
        matrix = d.reshape(d.shape[0], -1)
        rows, columns = matrix.shape
        if group.adjust_lr == "original":
            scale = math.sqrt(max(1, rows / max(columns, 1)))
        else:
            scale = 0.2 * math.sqrt(max(rows, columns))
        if group.weight_decay:
            p *= scalar(1 - group.lr * group.weight_decay)
        direction = orthogonalized(matrix, group.ns_coefficients, group.ns_steps, group.eps).reshape(d.shape)
        p -= scalar(group.lr * scale) * from_torch(self.flat.leaves[slot.name], direction)


def orthogonalized(matrix: Array, coefficients: tuple[float, float, float], steps: int, eps: float) -> Array:
    """Roughly the nearest semi-orthogonal matrix: the same singular vectors, with singular values between 0.7 and 1.2.

    This is the quintic Newton-Schulz iteration of the Muon reference. It works on the transpose of a tall matrix, whose Gram
    matrix is smaller.
    """
    a, b, c = (matrix.dtype.type(x) for x in coefficients)
    tall = matrix.shape[0] > matrix.shape[1]
    x = np.ascontiguousarray(matrix.T if tall else matrix)
    x = x / matrix.dtype.type(max(norm(x), eps))
    matmul = kernels.active().matmul
    for _ in range(steps):
        gram = matmul(x, x.T)
        x = a * x + matmul(b * gram + c * matmul(gram, gram), x)
    return np.asarray(x.T if tall else x)
