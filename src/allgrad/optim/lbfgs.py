"""L-BFGS: a quasi-Newton method for smooth losses of the whole data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.optim.optimizer import Array, Optimizer
from allgrad.optim.settings import Count, NonNegative, Positive, SettingError
from allgrad.optim.wolfe import strong_wolfe
from allgrad.stateful import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CURVATURE = 1e-10
"""A pair (s, y) is stored if s.y is larger, so that the approximation stays positive definite; PyTorch's number."""


class LBFGS(Optimizer):
    """Limited-memory BFGS. A step evaluates a closure several times, as that of `torch.optim.LBFGS` does.

        d = -H g,  H from the last pairs s = x' - x, y = g' - g by the two-loop recursion,  x = x + t d

    With `line_search_fn=None` the step length t is lr (in the very first iteration min(1, 1 / |g|_1) lr), and the iterates
    equal PyTorch's. With "strong_wolfe", the default here, t satisfies the strong Wolfe conditions, starting from the
    same length.

    The closure empties the gradients, computes the loss and its gradients, and returns the loss. It must compute the same
    function each time, so use the whole data set (or the same batch) and no dropout. It may be data-parallel: let it call
    `DataParallel.step` and return the result's `loss`, which is the same number on all ranks. Configuration files cannot
    name this optimizer, because the trainer computes one gradient per step.

    Reference: Liu & Nocedal, "On the limited memory BFGS method for large scale optimization" (Mathematical Programming 45,
    1989); Nocedal & Wright, "Numerical Optimization" (2006), algorithms 7.4, 3.5, and 3.6.

    Args:
        params: a Module, leaves, or (name, leaf) pairs; a single group.
        lr: step length, or the first length that the line search tries.
        max_iter: iterations in one step.
        max_eval: evaluations of the closure in one step. None: 5/4 of `max_iter`.
        tolerance_grad: stop when no entry of the gradient is larger.
        tolerance_change: stop when no parameter, or the loss, changes by more.
        history_size: pairs (s, y) that are kept; each is two arrays of the model's size.
        line_search_fn: "strong_wolfe" or None.

    Raises:
        SettingError: if a setting is out of range, or there are several groups.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import LBFGS
        >>> x = ag.tensor([-1.5, 2.0], requires_grad=True)
        >>> optimizer = LBFGS([x], max_iter=100)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        ...     loss.backward()
        ...     return loss
        >>> first = optimizer.step(closure)
        >>> x.value.round(4).tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: Positive = 1.0,
        max_iter: Count = 20,
        max_eval: Count | None = None,
        tolerance_grad: NonNegative = 1e-7,
        tolerance_change: NonNegative = 1e-9,
        history_size: Count = 100,
        line_search_fn: Literal["strong_wolfe"] | None = "strong_wolfe",
    ) -> None:
        super().__init__(params, locals())
        if len(self.groups) != 1:
            raise SettingError(f"LBFGS: all parameters must be in one group. Got {len(self.groups)} groups.")
        self.iterations = 0
        self._gradient: Array | None = None  # before the last move
        self._move: Array | None = None
        self._pairs: list[tuple[Array, Array]] = []

    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Minimize for up to `max_iter` iterations.

        Args:
            closure: empties the gradients, runs forward and backward, and returns the loss: a scalar Tensor or a number.

        Returns:
            The loss at the beginning.

        Raises:
            TypeError: if `closure` is not a function.
        """
        if not callable(closure):
            raise TypeError(
                "LBFGS.step needs a function that empties the gradients, runs forward and backward, and returns the loss. "
                f"Got {type(closure).__name__} instead."
            )
        group, x = self.groups[0], self._gather(self.flat.params)
        most = group.max_eval or group.max_iter * 5 // 4
        first = loss = self._evaluate(closure)
        g = self._gather(self.flat.grads)
        evaluations = 1
        for iteration in range(1, group.max_iter + 1):
            if np.abs(g).max(initial=0) <= group.tolerance_grad:
                break
            d, length = (
                self._direction(g),
                group.lr * (1.0 if self.iterations else min(1.0, 1 / float(np.abs(g).sum()))),
            )
            slope = float(np.dot(g, d))
            if slope > -group.tolerance_change:
                break
            self.iterations += 1
            start, before, self._gradient = x, loss, g
            if group.line_search_fn is None:
                self._scatter(start + length * d)
                if iteration < group.max_iter:
                    loss, g = self._evaluate(closure), self._gather(self.flat.grads)
                    evaluations += 1
            else:

                def at(length: float, start: Array = start, d: Array = d) -> tuple[float, Array]:
                    self._scatter(start + length * d)
                    return self._evaluate(closure), self._gather(self.flat.grads)

                found = strong_wolfe(at, d, loss, g, length, group.tolerance_change)
                length, loss, g, evaluations = found.length, found.loss, found.gradient, evaluations + found.evaluations
                self._scatter(start + length * d)
            x, self._move = self._gather(self.flat.params), length * d
            small = np.abs(self._move).max(initial=0) <= group.tolerance_change
            if small or abs(loss - before) < group.tolerance_change or evaluations >= most:
                break
        return first

    def _direction(self, g: Array) -> Array:
        """-H g, after the pair of the last move was stored."""
        if self._gradient is not None and self._move is not None:
            y, s = g - self._gradient, self._move
            if float(np.dot(y, s)) > CURVATURE:
                self._pairs = [*self._pairs, (s, y)][-self.groups[0].history_size :]
        q, weights = -g, []
        for s, y in reversed(self._pairs):
            weight = np.dot(s, q) / np.dot(y, s)
            weights.append(weight)
            q -= weight * y
        if self._pairs:
            s, y = self._pairs[-1]
            q *= np.dot(y, s) / np.dot(y, y)
        for (s, y), weight in zip(self._pairs, reversed(weights), strict=True):
            q += s * (weight - np.dot(y, q) / np.dot(y, s))
        return q

    def _evaluate(self, closure: Callable[[], Any]) -> float:
        loss = closure()
        return float(loss.value if hasattr(loss, "value") else loss)

    def _gather(self, arena: Any) -> Array:
        """The parameters' entries, or their gradients', as one new array; zeros for a parameter without a gradient."""
        skip = self.flat.without_gradient() if arena is self.flat.grads else ()
        parts = [
            np.zeros(slot.size, slot.dtype) if slot.name in skip else arena[slot.name].reshape(-1)
            for slot in self._slots
        ]
        return np.concatenate(parts)

    def _scatter(self, x: Array) -> None:
        start = 0
        with self.flat.writing():  # in shared memory, all ranks write the same numbers
            for slot in self._slots:
                self.flat.params[slot.name][...] = x[start : start + slot.size].reshape(slot.shape)
                start += slot.size
        self.flat.touch(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """As `Optimizer.state_dict`, and besides it the iterations, the last gradient and move, and the pairs (s, y)."""
        kept = {"gradient": self._gradient, "move": self._move}
        return {
            **super().state_dict(),
            "iterations": self.iterations,
            **{name: array.copy() for name, array in kept.items() if array is not None},
            "s": np.array([s for s, _ in self._pairs]),
            "y": np.array([y for _, y in self._pairs]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`. Raises StateError if it is not of this optimizer and these parameters."""
        size = sum(slot.size for slot in self._slots)
        for name in ("gradient", "move", "s", "y"):
            if name in state and np.size(state[name]) and np.shape(state[name])[-1] != size:
                raise StateError(
                    f"LBFGS.load_state_dict: {name} has shape {np.shape(state[name])}, expected {size} entries in a row."
                )
        super().load_state_dict(state)
        self.iterations = int(state["iterations"])
        self._gradient, self._move = (np.array(state[name]) if name in state else None for name in ("gradient", "move"))
        self._pairs = [(np.array(s), np.array(y)) for s, y in zip(state["s"], state["y"], strict=True)]
