"""Embeddings, and positions for sequences: learned and rotary.

The gradient of an embedding is a sum of rows by index. It is added up in the order of the rows, directly in the gradient arena,
without a one-hot matrix of the table's size and without `np.add.at`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from allgrad import kernels
from allgrad.autodiff import Fused, Tensor
from allgrad.kernels import portable_math
from allgrad.nn import init
from allgrad.nn.checks import check_range, private_copy, refuse_input
from allgrad.nn.errors import InputError, InputTypeError, LayerOptionError
from allgrad.nn.gradients import by_worker, gradient_for
from allgrad.nn.module import Module
from allgrad.nn.parameter import Parameter

Array = np.ndarray[Any, Any]


def _take_forward(weight: Array, *, indices: Array, padding_index: int | None) -> tuple[Array, Any]:  # noqa: ARG001
    # mode="clip" skips NumPy's own check; the layer has checked already.
    return np.take(weight, indices, axis=0, mode="clip"), weight


def _take_backward(
    g: Array,
    residuals: Any,
    *,
    needs: Any,  # noqa: ARG001
    into: Any,
    indices: Array,
    padding_index: int | None,
) -> Any:
    gradient, flat, g = gradient_for(residuals, into[0]), indices.reshape(-1), g.reshape(-1, g.shape[-1])
    for rows, (out,) in by_worker(len(flat), gradient):
        kernels.active().embedding_gradient(g[rows], flat[rows], out=out)
        if padding_index is not None:
            out[padding_index] = 0
    return (gradient,)


def _take_reference(weight: Any, *, indices: Array, padding_index: int | None) -> Any:
    if padding_index is not None:
        learned = np.ones((weight.shape[0], 1), bool)
        learned[padding_index] = False
        frozen = weight.detach() if isinstance(weight, Tensor) else weight
        weight = np.where(learned, weight, frozen)
    return weight[indices]


_take = Fused(_take_forward, _take_backward, name="embedding", reference=_take_reference, by_worker=True)


class Embedding(Module):
    """Rows of a table, looked up by index.

    indices: (...) int; result: (..., features) float.

    Args:
        count: rows of the table; indices are 0 to count - 1.
        features: length of a row.
        padding_index: a row that starts as zeros and gets no gradient.
        std: standard deviation of the normal distribution of the initial table.
        rng: source of the initial numbers.
        dtype: of the table, float32 or float64.

    Raises:
        InputTypeError: if indices are not integers.
        IndexRangeError: if an index is outside of the table; the message gives its position.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.Embedding(10, 4, rng=0)(np.array([[1, 2, 1]])).shape
    (1, 3, 4)
    """

    rows_independent = True

    def __init__(
        self,
        count: int,
        features: int,
        *,
        padding_index: int | None = None,
        std: float = 1.0,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if padding_index is not None and not -count <= padding_index < count:
            raise LayerOptionError(
                f"Embedding: padding_index must be a row of a table of {count} rows. Got {padding_index} instead."
            )
        self.count, self.features = count, features
        self.padding_index = padding_index
        table = init.normal((count, features), rng, std=std, dtype=dtype)
        if padding_index is not None:
            table[padding_index] = 0
        self.weight = Parameter(table, embedding=True)

    def forward(self, indices: Any) -> Any:
        indices = private_copy(indices)
        if indices.dtype.kind not in "iu":
            raise InputTypeError(
                f"{self.where()}: indices must be integers. Got {indices.dtype}, shape {indices.shape}, instead."
            )
        check_range(self, indices, self.count, "index", "rows")
        return _take(self.weight, indices=indices, padding_index=self.padding_index)

    def extra_repr(self) -> str:
        padding = "" if self.padding_index is None else f", padding_index={self.padding_index}"
        return f"{self.count}, {self.features}{padding}"


def _add_forward(x: Array, weight: Array) -> tuple[Array, Any]:
    return x + weight[: x.shape[-2]], (x.shape, weight)


def _add_backward(g: Array, residuals: Any, *, needs: Any, into: Any) -> tuple[Any, Any]:
    (*_, length, features), weight = residuals
    if not needs[1]:
        return g, None
    gradient = gradient_for(weight, into[1])
    flat = np.ascontiguousarray(g).reshape(-1, length * features)
    for rows, (out,) in by_worker(len(flat), gradient):
        kernels.active().bias_gradient(flat[rows], out=out[:length].reshape(-1))
        out[length:] = 0
    return g, gradient


_add_positions = Fused(
    _add_forward,
    _add_backward,
    name="add_positions",
    reference=lambda x, weight: x + weight[: x.shape[-2]],
    by_worker=True,
)


class LearnedPositions(Module):
    """x + weight[:length]: one learned vector per position.

    x: (..., length, features) float; result: the same shape. The weight has the name and shape of a PyTorch `Embedding` that is
    used for positions.

    Reference: Gehring et al., "Convolutional Sequence to Sequence Learning" (ICML 2017).

    Args:
        length: the longest sequence.
        features: length of the last axis.
        std: standard deviation of the normal distribution of the initial vectors.
        rng: source of the initial numbers.
        dtype: of the vectors and the input, float32 or float64.

    Raises:
        InputError, InputTypeError: if an input has the wrong shape or dtype.
    """

    rows_independent = True

    def __init__(
        self, length: int, features: int, *, std: float = 1.0, rng: init.Rng, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self.length, self.features = length, features
        self.weight = Parameter(init.normal((length, features), rng, std=std, dtype=dtype), embedding=True)

    def forward(self, x: Any) -> Any:
        if x.dtype != self.weight.dtype or x.shape[-1] != self.features:
            refuse_input(self, x, self.features, self.weight.dtype)
        if x.ndim < 2 or x.shape[-2] > self.length:
            raise InputError(
                f"{self.where()}: expects (..., length up to {self.length}, {self.features}). Got shape {x.shape} instead."
            )
        return _add_positions(x, self.weight)

    def extra_repr(self) -> str:
        return f"{self.length}, {self.features}"


def rotary_tables(length: int, features: int, base: float, dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """cos and sin of position * base^(-2 i / features), each (length, features / 2)."""
    rates = portable_math.power(base, -np.arange(0, features, 2) / features)
    angles = np.arange(length)[:, None] * rates
    return portable_math.cos(angles).astype(dtype), portable_math.sin(angles).astype(dtype)


def _rotate(x: Array, cos: Array, sin: Array, heads: int) -> Array:
    half = x.shape[-1] // 2
    y = np.empty(x.shape, x.dtype)
    a, b = x[..., :heads, :half], x[..., :heads, half:]
    cos, sin = cos[:, None], sin[:, None]
    np.subtract(a * cos, b * sin, out=y[..., :heads, :half])
    np.add(b * cos, a * sin, out=y[..., :heads, half:])
    y[..., heads:, :] = x[..., heads:, :]
    return y


def _rotary_reference(x: Any, *, cos: Array, sin: Array, heads: int) -> Any:
    half = x.shape[-1] // 2
    a, b = x[..., :heads, :half], x[..., :heads, half:]
    cos, sin = cos[:, None], sin[:, None]
    turned = np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return np.concatenate([turned, x[..., heads:, :]], axis=-2)


_rotary = Fused(
    lambda x, *, cos, sin, heads: (_rotate(x, cos, sin, heads), None),
    lambda g, _, *, needs, cos, sin, heads: (_rotate(g, cos, -sin, heads),),  # noqa: ARG005 - the transpose of a rotation
    name="rotary",
    reference=_rotary_reference,
)


class RotaryPositions(Module):
    """Rotate queries and keys by an angle that grows with their position.

    x: (..., length, heads, head_features) float; result: the same shape. Entry i of the first half of a head and entry i of its
    second half are the coordinates of one rotation (the layout of GPT-NeoX and Llama). There are no parameters.

    Reference: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).

    Args:
        head_features: length of a head, an even number.
        length: the longest sequence.
        base: the wavelengths are 2 pi base^(2 i / head_features).
        dtype: of the input, float32 or float64.

    Raises:
        LayerOptionError: if `head_features` is odd.
        InputError: if an input has the wrong shape or dtype.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.RotaryPositions(4, 8)(np.ones((1, 8, 2, 4), np.float32)).shape
    (1, 8, 2, 4)
    """

    rows_independent = True

    def __init__(
        self, head_features: int, length: int, *, base: float = 10000.0, dtype: npt.DTypeLike = np.float32
    ) -> None:
        if head_features % 2:
            raise LayerOptionError(f"RotaryPositions: head_features must be even. Got {head_features} instead.")
        self.head_features, self.length, self.base = head_features, length, base
        self.cos, self.sin = rotary_tables(length, head_features, base, dtype)

    def forward(self, x: Any, heads: int | None = None) -> Any:
        """x: (..., length, heads, head_features) float. With `heads`, only the first that many heads are rotated."""
        if x.ndim < 3 or x.shape[-1] != self.head_features or x.shape[-3] > self.length or x.dtype != self.cos.dtype:
            raise InputError(
                f"{self.where()}: expects {self.cos.dtype} of shape (..., length up to {self.length}, heads, "
                f"{self.head_features}). Got {x.dtype}, shape {x.shape}, instead."
            )
        length = x.shape[-3]
        return _rotary(x, cos=self.cos[:length], sin=self.sin[:length], heads=x.shape[-2] if heads is None else heads)

    def extra_repr(self) -> str:
        return f"{self.head_features}, {self.length}, base={self.base:g}"
