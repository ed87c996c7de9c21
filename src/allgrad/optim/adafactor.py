"""Adafactor: second moments kept as a row and a column, so that state is O(rows + columns)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer
from allgrad.optim.orientation import as_torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.memory import Slot
    from allgrad.optim.groups import Bounds, Group

Array = np.ndarray[Any, np.dtype[Any]]


class Adafactor(Optimizer):
    """Adafactor without momentum, with relative step sizes and update clipping, equal to `torch.optim.Adafactor`.

        rho = min(lr, 1 / sqrt(t)),   alpha = max(eps2, rms(p)) rho,   p = (1 - lr weight_decay) p
        R, C: running means, of weight t^beta2_decay, of g^2 over columns and over rows;  V = R C / mean(R)
        (parameters of one or no axis keep V itself)
        U = g / max(sqrt(V), eps1),   p = p - alpha U / max(1, rms(U) / d)

    The factors are over the last two axes of PyTorch's layout, as there.

    Reference: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (ICML 2018), with PyTorch's
    choice of where eps1 goes.

    Args:
        params: leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr, beta2_decay, d, weight_decay: as above.
        eps: (eps1, eps2); eps1 None is the dtype's machine epsilon.

    Raises:
        ValueError: for a setting out of range.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import Adafactor
        >>> w = ag.tensor(np.ones((2, 3)), requires_grad=True)
        >>> optimizer = Adafactor([w], lr=0.1)
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> w.value.round(6).tolist()
        [[0.9, 0.9, 0.9], [0.9, 0.9, 0.9]]
    """

    needs_whole_parameters: ClassVar[bool] = True
    bounds: ClassVar[Bounds] = {
        "lr": (0, math.inf),
        "beta2_decay": (-math.inf, 0),
        "eps": (0, math.inf),
        "d": (1, math.inf),
        "weight_decay": (0, math.inf),
    }

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "beta2_decay": beta2_decay, "eps": tuple(eps), "d": d, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self._factors = {
            slot.name: _factors(as_torch(self.flat.leaves[slot.name], self.flat.params[slot.name]))
            for slot in self._slots
        }

    def arrays_of(self, name: str) -> dict[str, Array]:
        """`row_var` and `col_var` of a matrix, `variance` of anything smaller."""
        return self._factors[name]

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:
        scalar, leaf = slot.dtype.type, self.flat.leaves[slot.name]
        p, g = as_torch(leaf, self.flat.params[slot.name]), as_torch(leaf, self.flat.grads[slot.name])
        if not p.size:
            return
        eps1 = float(np.finfo(slot.dtype).eps) if group.eps[0] is None else group.eps[0]
        alpha = max(group.eps[1], norm(self.flat.params[slot.name]) / math.sqrt(p.size)) * min(group.lr, step**-0.5)
        if group.weight_decay:
            p *= scalar(1 - group.lr * group.weight_decay)
        u = self._estimate(slot.name, g, scalar(step**group.beta2_decay), scalar(eps1))
        np.maximum(u, scalar(eps1 * eps1), out=u)
        np.sqrt(u, out=u)
        np.divide(g, u, out=u)
        length = norm(np.ascontiguousarray(u)) / math.sqrt(u.size)
        u *= scalar(alpha / max(1.0, length / group.d))
        p -= u

    def _estimate(self, name: str, g: Array, weight: Any, eps1: Any) -> Array:
        """Bring the running means forward and return a new array with the second moment that they stand for."""
        square, factors = g * g, self._factors[name]
        if "variance" in factors:
            factors["variance"] += weight * (square - factors["variance"])
            return factors["variance"].copy()
        row, column = factors["row_var"], factors["col_var"]
        row += weight * (square.mean(-1, keepdims=True) - row)
        column += weight * (square.mean(-2, keepdims=True) - column)
        return np.asarray(row * column / np.maximum(row.mean(-2, keepdims=True), eps1))


def _factors(p: Array) -> dict[str, Array]:
    if p.ndim < 2:
        return {"variance": np.zeros(p.shape, p.dtype)}
    *batch, rows, columns = p.shape
    return {"row_var": np.zeros((*batch, rows, 1), p.dtype), "col_var": np.zeros((*batch, 1, columns), p.dtype)}
