"""Gradient clipping by global norm and by value, in place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.errors import AllgradError
from allgrad.optim.gradients import changing, gradients_of, squares_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from allgrad.memory import FlatParameters

EPSILON = 1e-6
"""Added to the norm before dividing, as in PyTorch."""


class GradientNormError(AllgradError, FloatingPointError):
    """The norm of the gradients is NaN or infinite."""


def clip_norm(
    params: FlatParameters | Iterable[Any],
    max_norm: float,
    *,
    unused: Collection[str] | None = None,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients by one factor so that their Euclidean norm is at most `max_norm`.

    The norm is summed for each parameter in fixed blocks, then over parameters in order of registration, so it has the same
    bits at any number of ranks. The result equals that of `torch.nn.utils.clip_grad_norm_`. If the norm is not finite,
    nothing is scaled.

    Args:
        params: a model, `model.parameters()`, an optimizer, or FlatParameters (`optimizer.flat`).
        max_norm: the largest norm allowed, 0 or more.
        unused: names of parameters whose gradient does not count. By default those whose leaf has no gradient.
        error_if_nonfinite: raise an error instead of returning NaN or infinity.

    Returns:
        The norm before clipping.

    Raises:
        ValueError: if `max_norm` is negative or NaN.
        GradientNormError: with `error_if_nonfinite`, if the norm is not finite; names the first such parameter.
        TypeError: if `params` is something else.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import clip_norm
        >>> w = ag.tensor([3.0, 4.0], requires_grad=True)
        >>> np.sum(w * w).backward()
        >>> clip_norm([w], 1.0), w.grad.round(5).tolist()
        (10.0, [0.6, 0.8])
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_norm: max_norm must be 0 or more. Got {max_norm} instead.")
    params = list(params) if isinstance(params, Iterator) else params
    gradients = gradients_of(params, unused, caller="clip_norm")
    squares = squares_of(gradients, params)
    norm = math.sqrt(sum(squares.values()))
    if not math.isfinite(norm):
        if error_if_nonfinite:
            first = next((name for name, square in squares.items() if not math.isfinite(square)), None)
            where = (
                f"the first gradient that is not finite is that of {first!r}" if first else "each gradient is finite"
            )
            raise GradientNormError(f"clip_norm: the norm of the gradients is {norm}; {where}.")
        return norm
    factor = clipping_factor(norm, max_norm)
    if factor is not None:
        with changing(gradients, params) as parts:
            for part in parts:
                part *= part.dtype.type(factor)
    return norm


def clipping_factor(norm: float, max_norm: float) -> float | None:
    """What gradients of this norm are multiplied by; None: they stay as they are."""
    return max_norm / (norm + EPSILON) if math.isfinite(norm) and norm > max_norm else None


def clip_value(params: FlatParameters | Iterable[Any], limit: float, *, unused: Collection[str] | None = None) -> None:
    """Limit every entry of every gradient to [-limit, limit], as `torch.nn.utils.clip_grad_value_` does.

    Args:
        params: a model, `model.parameters()`, an optimizer, or FlatParameters (`optimizer.flat`).
        limit: the largest size of an entry, 0 or more.
        unused: names of parameters to leave unchanged. By default those whose leaf has no gradient.

    Raises:
        ValueError: if `limit` is negative or NaN.
        TypeError: if `params` is something else.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import clip_value
        >>> w = ag.tensor([0.1, -4.0], requires_grad=True)
        >>> np.sum(w * w).backward()
        >>> clip_value([w], 1.0)
        >>> w.grad.tolist()
        [0.2, -1.0]
    """
    if not limit >= 0:
        raise ValueError(f"clip_value: limit must be 0 or more. Got {limit} instead.")
    params = list(params) if isinstance(params, Iterator) else params
    with changing(gradients_of(params, unused, caller="clip_value"), params) as parts:
        for part in parts:
            np.clip(part, -limit, limit, out=part)
