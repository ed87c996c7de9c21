"""Adafactor: the second moments of a matrix are kept as one row and one column, so the state is O(rows + columns)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le

from allgrad.kernels.portable_math import power
from allgrad.memory import Layout, ParameterSpec
from allgrad.optim.layouts import from_torch, to_torch
from allgrad.optim.norms import norm
from allgrad.optim.optimizer import Optimizer
from allgrad.optim.settings import NonNegative

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from allgrad.memory import Arena, Slot
    from allgrad.optim.groups import Group

Array = np.ndarray[Any, np.dtype[Any]]


class Adafactor(Optimizer):
    """Adafactor without momentum, with relative step sizes and update clipping, equal to `torch.optim.Adafactor`.

        rho = min(lr, 1 / sqrt(t)),   alpha = max(eps2, rms(p)) rho,   p = (1 - lr weight_decay) p
        R, C: running means, of weight t^beta2_decay, of g^2 over columns and over rows;  V = R C / mean(R)
        (parameters with fewer than two axes keep V itself)
        U = g / max(sqrt(V), eps1),   p = p - alpha U / max(1, rms(U) / d)

    Rows and columns are the last two axes of PyTorch's layout.

    Reference: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost" (ICML 2018), with PyTorch's
    placement of eps1.

    Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        lr: the largest relative step.
        beta2_decay: exponent of the step number in the weight of the new square, 0 or less.
        eps: (eps1, eps2), the smallest denominator and the smallest scale of a parameter. None: the dtype's machine epsilon.
        d: the largest root mean square of an update before scaling, 1 or more.
        weight_decay: share of the parameters, times lr, that is taken away in each step.

    Raises:
        SettingError: if a setting is out of range.

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

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: NonNegative = 1e-2,
        beta2_decay: Annotated[float, Le(0)] = -0.8,
        eps: tuple[NonNegative | None, NonNegative] = (None, 1e-3),
        d: Annotated[float, Ge(1)] = 1.0,
        weight_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())
        specs = {slot.name: _factors(self._torch(slot, self.flat.params)) for slot in self._slots}
        flat = [
            ParameterSpec(f"{name}/{key}", shape, self.flat.layout[name].dtype)
            for name, shapes in specs.items()
            for key, shape in shapes.items()
        ]
        self._shapes, self._factors = specs, self.flat.new_arena(Layout.plan(flat))

    def moments_of(self, name: str, options: Mapping[str, Any]) -> dict[str, Array]:  # noqa: ARG002
        """`row_var` and `col_var` of a parameter with two axes or more, `variance` of any other."""
        return {key: self._factors[f"{name}/{key}"] for key in self._shapes[name]}

    def _torch(self, slot: Slot, arena: Arena) -> Array:
        return to_torch(self.flat.leaves[slot.name], arena[slot.name])

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:
        scalar, p = slot.dtype.type, self.flat.params[slot.name]
        if not p.size:
            return
        eps1 = float(np.finfo(slot.dtype).eps) if group.eps[0] is None else group.eps[0]
        alpha = max(group.eps[1], norm(p) / math.sqrt(p.size)) * min(group.lr, 1 / math.sqrt(step))
        if group.weight_decay:
            p *= scalar(1 - group.lr * group.weight_decay)
        g = self._torch(slot, self.flat.grads)
        u = self._second_moment(slot.name, g, scalar(power(step, group.beta2_decay)), scalar(eps1))
        np.maximum(u, scalar(eps1 * eps1), out=u)
        np.sqrt(u, out=u)
        np.divide(g, u, out=u)
        length = norm(np.ascontiguousarray(u)) / math.sqrt(u.size)
        u *= scalar(alpha / max(1.0, length / group.d))
        p -= from_torch(self.flat.leaves[slot.name], u)

    def _second_moment(self, name: str, g: Array, weight: Any, eps1: Any) -> Array:
        """Update the running means and return a new array with the second moment that they represent."""
        square, factors = g * g, self.moments_of(name, {})
        if "variance" in factors:
            factors["variance"] += weight * (square - factors["variance"])
            return factors["variance"].copy()
        row, column = factors["row_var"], factors["col_var"]
        row += weight * (square.mean(-1, keepdims=True) - row)
        column += weight * (square.mean(-2, keepdims=True) - column)
        return np.asarray(row * column / np.maximum(row.mean(-2, keepdims=True), eps1))


def _factors(p: Array) -> dict[str, tuple[int, ...]]:
    """The shapes of a parameter's state."""
    if p.ndim < 2:
        return {"variance": p.shape}
    *batch, rows, columns = p.shape
    return {"row_var": (*batch, rows, 1), "col_var": (*batch, 1, columns)}
