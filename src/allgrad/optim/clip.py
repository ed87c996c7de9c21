"""Gradient clipping by global norm and by value, in place on the gradient arena."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from allgrad.optim.norms import sum_of_squares

if TYPE_CHECKING:
    from collections.abc import Collection

    from allgrad.memory import FlatParameters

SMALL = 1e-6
"""Added to the norm before dividing, as in PyTorch."""


def clip_norm(
    flat: FlatParameters,
    max_norm: float,
    *,
    unused: Collection[str] | None = None,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients by one number so that their Euclidean norm is at most `max_norm`.

    The norm is summed per parameter in fixed blocks, then over parameters in order of registration, so that it has the same bits
    at any number of ranks. Same result as `torch.nn.utils.clip_grad_norm_`. If the norm is not finite, nothing is scaled.

    Args:
        flat: where the gradients are (`optimizer.flat`).
        max_norm: the largest norm allowed, 0 or more.
        unused: parameters whose gradient does not count; by default those whose leaf has none.
        error_if_nonfinite: raise instead of returning NaN or infinity.

    Returns:
        The norm before clipping.

    Raises:
        ValueError: if `max_norm` is negative or NaN.
        FloatingPointError: with `error_if_nonfinite`; names the first parameter with such a gradient.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.memory import flatten
        >>> from allgrad.optim import clip_norm
        >>> w = ag.tensor([3.0, 4.0], requires_grad=True)
        >>> flat = flatten([w])
        >>> np.sum(w * w).backward()
        >>> clip_norm(flat, 1.0), w.grad.round(5).tolist()
        (10.0, [0.6, 0.8])
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_norm: max_norm must be 0 or more. Got {max_norm} instead.")
    used = used_names(flat, unused)
    squares = gradient_squares(flat, used)
    norm = math.sqrt(sum(squares.values()))
    if not math.isfinite(norm):
        if error_if_nonfinite:
            first = next(name for name in used if not math.isfinite(squares[name]))
            raise FloatingPointError(f"clip_norm: the norm of the gradients is {norm}; the first such is of {first!r}.")
        return norm
    if norm > max_norm:
        scale_gradients(flat, max_norm / (norm + SMALL), used)
    return norm


def clip_value(flat: FlatParameters, limit: float, *, unused: Collection[str] | None = None) -> None:
    """Cut every entry of every gradient to [-limit, limit], as `torch.nn.utils.clip_grad_value_` does.

    Raises:
        ValueError: if `limit` is negative or NaN.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.memory import flatten
        >>> from allgrad.optim import clip_value
        >>> w = ag.tensor([0.1, -4.0], requires_grad=True)
        >>> flat = flatten([w])
        >>> np.sum(w * w).backward()
        >>> clip_value(flat, 1.0)
        >>> w.grad.tolist()
        [0.2, -1.0]
    """
    if not limit >= 0:
        raise ValueError(f"clip_value: limit must be 0 or more. Got {limit} instead.")
    for name in used_names(flat, unused):
        np.clip(flat.grads[name], -limit, limit, out=flat.grads[name])


def used_names(flat: FlatParameters, unused: Collection[str] | None) -> list[str]:
    """The parameters that have a gradient, in order of registration."""
    skip = flat.without_gradient() if unused is None else unused
    return [name for name in flat.leaves if name not in skip]


def gradient_squares(flat: FlatParameters, names: Collection[str]) -> dict[str, float]:
    """Sum of squares of each gradient. Ranks that each know some of them can exchange these: floats, one a parameter."""
    return {name: sum_of_squares(flat.grads[name]) for name in names}


def scale_gradients(flat: FlatParameters, factor: float, names: Collection[str]) -> None:
    """Multiply gradients by a number, in place."""
    for name in names:
        gradient = flat.grads[name]
        gradient *= gradient.dtype.type(factor)
