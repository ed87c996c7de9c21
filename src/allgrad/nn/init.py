"""Initial weights, by name, from explicit generators.

Each initializer is a function `(shape, rng, *, dtype, ...) -> array`. The same generator state gives the same bits. Shapes are
ours: the last axis is the output, and the axes before it are inputs, so a linear weight is (in, out) and a convolution's
(kernel..., in, out). fan_in is the product of all axes except the last; fan_out has the last axis instead of the one before it.

    weight = init.kaiming_normal((784, 512), rng)
    weight = init.by_name("xavier_uniform")((784, 512), rng)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.kernels import portable_math

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Rng = np.random.Generator | int

GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2.0),
    "gelu": math.sqrt(2.0),
    "silu": math.sqrt(2.0),
}
"""The factor that keeps the variance constant through a nonlinearity (He et al. 2015; PyTorch's value for tanh)."""


def generator(rng: Rng) -> np.random.Generator:
    """`rng` itself, or for an integer a new generator (PCG64) with that seed.

    Two layers that get the same integer start with the same numbers, so pass one generator to all layers of a model.

    Raises:
        TypeError: if `rng` is neither.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise TypeError(f"rng must be a numpy.random.Generator or an integer seed. Got {rng!r} instead.")
    return np.random.default_rng(int(rng))


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight.

    >>> fans((784, 512)), fans((3, 3, 16, 32))
    ((784, 512), (144, 288))
    """
    if len(shape) < 2:
        raise ValueError(
            f"fans: a weight must have at least two axes. Got shape {shape} instead. Use zeros or uniform for vectors."
        )
    fan_in = math.prod(shape[:-1])
    return fan_in, math.prod(shape[:-2]) * shape[-1]


def zeros(shape: Shape, rng: Rng = 0, *, dtype: npt.DTypeLike = np.float32) -> Array:  # noqa: ARG001
    return np.zeros(shape, dtype)


def ones(shape: Shape, rng: Rng = 0, *, dtype: npt.DTypeLike = np.float32) -> Array:  # noqa: ARG001
    return np.ones(shape, dtype)


def uniform(shape: Shape, rng: Rng, *, bound: float = 1.0, dtype: npt.DTypeLike = np.float32) -> Array:
    """Uniform on [-bound, bound)."""
    drawn = generator(rng).random(shape) * (2 * bound) - bound
    return drawn.astype(dtype)


def normal(shape: Shape, rng: Rng, *, std: float = 1.0, dtype: npt.DTypeLike = np.float32) -> Array:
    """Normal with mean 0."""
    return (portable_math.normal(generator(rng), shape) * std).astype(dtype)


def truncated_normal(
    shape: Shape, rng: Rng, *, std: float = 1.0, limit: float = 2.0, dtype: npt.DTypeLike = np.float32
) -> Array:
    """Normal with mean 0; numbers beyond `limit` times std are drawn again. The standard deviation is smaller than `std`."""
    g = generator(rng)
    drawn = portable_math.normal(g, shape)
    outside = np.abs(drawn) > limit
    while outside.any():
        drawn[outside] = portable_math.normal(g, (int(outside.sum()),))
        outside = np.abs(drawn) > limit
    return (drawn * std).astype(dtype)


def fan_in_uniform(shape: Shape, rng: Rng, *, dtype: npt.DTypeLike = np.float32) -> Array:
    """Uniform within 1 / sqrt(fan_in), as PyTorch initializes linear and convolution layers."""
    return uniform(shape, rng, bound=1 / math.sqrt(max(fans(shape)[0], 1)), dtype=dtype)


def kaiming_uniform(shape: Shape, rng: Rng, *, nonlinearity: str = "relu", dtype: npt.DTypeLike = np.float32) -> Array:
    """Uniform with variance gain^2 / fan_in (He et al., "Delving Deep into Rectifiers", ICCV 2015)."""
    return uniform(shape, rng, bound=_gain(nonlinearity) * math.sqrt(3 / max(fans(shape)[0], 1)), dtype=dtype)


def kaiming_normal(shape: Shape, rng: Rng, *, nonlinearity: str = "relu", dtype: npt.DTypeLike = np.float32) -> Array:
    """Normal with variance gain^2 / fan_in (He et al. 2015)."""
    return normal(shape, rng, std=_gain(nonlinearity) / math.sqrt(max(fans(shape)[0], 1)), dtype=dtype)


def xavier_uniform(shape: Shape, rng: Rng, *, gain: float = 1.0, dtype: npt.DTypeLike = np.float32) -> Array:
    """Uniform with variance 2 gain^2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return uniform(shape, rng, bound=gain * math.sqrt(6 / max(sum(fans(shape)), 1)), dtype=dtype)


def xavier_normal(shape: Shape, rng: Rng, *, gain: float = 1.0, dtype: npt.DTypeLike = np.float32) -> Array:
    """Normal with variance 2 gain^2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return normal(shape, rng, std=gain * math.sqrt(2 / max(sum(fans(shape)), 1)), dtype=dtype)


def orthogonal(shape: Shape, rng: Rng, *, gain: float = 1.0, dtype: npt.DTypeLike = np.float32) -> Array:
    """As a matrix (fan_in, out), the weight has orthonormal columns, or orthonormal rows if it is wide (Saxe et al. 2014)."""
    rows, columns = fans(shape)[0], shape[-1]
    tall = portable_math.normal(generator(rng), (max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # otherwise it is not uniform over the orthogonal matrices
    return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)


INITIALIZERS: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (
        zeros, ones, uniform, normal, truncated_normal, fan_in_uniform, kaiming_uniform, kaiming_normal,
        xavier_uniform, xavier_normal, orthogonal,
    )
}  # fmt: skip


def by_name(name: str) -> Callable[..., Array]:
    """The initializer of this name.

    Raises:
        ValueError: if there is none.

    >>> by_name("zeros")((2,)).tolist()
    [0.0, 0.0]
    """
    if name not in INITIALIZERS:
        raise ValueError(f"init: unknown initializer {name!r}. Choose one of {', '.join(sorted(INITIALIZERS))}.")
    return INITIALIZERS[name]


def _gain(nonlinearity: str) -> float:
    if nonlinearity not in GAINS:
        raise ValueError(f"init: unknown nonlinearity {nonlinearity!r}. Choose one of {', '.join(sorted(GAINS))}.")
    return GAINS[nonlinearity]
