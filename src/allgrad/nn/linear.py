"""Linear: y = activation(x @ weight + bias), one operation on the tape.

With G the cotangent of x @ weight + bias, the gradients are dx = G weight^T, dweight = x^T G, and dbias = the sum of G's rows.
The product for dweight is written directly into the gradient arena.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad import kernels
from allgrad.autodiff import Fused, Tensor
from allgrad.autodiff.modes import CURRENT
from allgrad.nn import init
from allgrad.nn.activations import ActivationFunction, activation_function
from allgrad.nn.checks import refuse_input
from allgrad.nn.errors import LayerOptionError
from allgrad.nn.gradients import gradient_for, product_gradient, sum_gradient
from allgrad.nn.module import Module
from allgrad.nn.parameter import TRANSPOSED, Parameter
from allgrad.nn.worker_products import affine

if TYPE_CHECKING:
    from collections.abc import Iterable

Array = np.ndarray[Any, Any]


BLOCK = 1 << 17
"""Number of entries of the result that are computed at a time before an activation: half a megabyte of float32, which stays in
the second-level cache from the product to the activation. With the NumPy kernels it affects bits, so it is the same everywhere.
"""


def _forward(
    x: Array, weight: Array, bias: Array | None, *, activation: ActivationFunction | None, transposed: bool
) -> tuple[Array, Any]:
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    matrix = weight.T if transposed else weight
    matmul, count, width = kernels.active().matmul, rows.shape[0], matrix.shape[1]
    y = np.empty((count, width), weight.dtype)
    kept = None
    if activation is None:
        matmul(rows, matrix, out=y, bias=bias)
    else:
        derivative = np.empty_like(y) if activation.needs_derivative and CURRENT.get().recording else None
        kept = y if derivative is None else derivative
        for x_, y_, derivative_ in _blocks(rows, y, derivative):
            activation.forward(matmul(x_, matrix, bias=bias), y_, derivative_)
    return (y if x.ndim == 2 else y.reshape(*x.shape[:-1], width)), (x, rows, weight, bias, kept)


def _blocks(rows: Array, y: Array, derivative: Array | None) -> Iterable[tuple[Array, Array, Array | None]]:
    """The three arrays in blocks of rows."""
    count, width = y.shape
    step = max(1, BLOCK // width)
    if 0 < count <= step:
        return ((rows, y, derivative),)
    spans = (slice(start, start + step) for start in range(0, count, step))
    return ((rows[s], y[s], None if derivative is None else derivative[s]) for s in spans)


def _backward(
    g: Array, residuals: Any, *, needs: Any, into: Any, activation: ActivationFunction | None, transposed: bool
) -> tuple[Any, Any, Any]:
    x, rows, weight, bias, kept = residuals
    if g.ndim != 2 or not g.flags.c_contiguous:
        g = np.ascontiguousarray(g).reshape(rows.shape[0], g.shape[-1])
    if activation is not None:
        g = activation.backward(g, kept)
    dx = dweight = dbias = None
    if needs[2]:
        dbias = gradient_for(bias, into[2])
        sum_gradient(g, dbias)
    if needs[1]:
        dweight = gradient_for(weight, into[1])
        first, second = (g, rows) if transposed else (rows, g)
        product_gradient(first, second, dweight)
    if needs[0]:
        dx = kernels.active().matmul(g, weight if transposed else weight.T)
        dx = dx if x.ndim == 2 else dx.reshape(x.shape)
    return dx, dweight, dbias


def _reference(x: Any, weight: Any, bias: Any, *, activation: ActivationFunction | None, transposed: bool) -> Any:
    y = affine(x, weight, bias, transposed=transposed)
    return y if activation is None else activation.reference(y)


_linear = Fused(_forward, _backward, name="linear", reference=_reference, by_worker=True)


def linear(x: Any, weight: Any, bias: Any = None, *, activation: str | ActivationFunction | None = None) -> Any:
    """activation(x @ weight + bias): (..., out) float.

    Args:
        x: (..., in) float.
        weight: (in, out) float.
        bias: (out,) float, or None.
        activation: a name in `activations.ACTIVATIONS`, an ActivationFunction, or None.

    Raises:
        LayerOptionError: if the activation is unknown.

    >>> import numpy as np
    >>> linear(np.ones((1, 2)), np.ones((2, 3)), -np.arange(3.0), activation="relu").tolist()
    [[2.0, 1.0, 0.0]]
    """
    return _linear(x, weight, bias, activation=activation_function(activation), transposed=False)


class Linear(Module):
    """y = activation(x @ weight + bias).

    x: (..., in_features) float; result: (..., out_features) float. The weight is (in_features, out_features); in files it is
    (out_features, in_features), as in PyTorch.

    Args:
        in_features: length of the last axis of x.
        out_features: length of the last axis of the result.
        bias: whether there is a bias.
        activation: runs in the same pass over memory: "relu", "gelu", "tanh", ...; see `activations.ACTIVATIONS`.
        tied: the weight of an embedding, of shape (out_features, in_features). Its transpose is used instead of a weight of this
            layer's own, and it gets gradients from both uses.
        rng: source of the initial numbers: uniform within 1 / sqrt(in_features), weight first.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if sizes or the shape of `tied` do not fit.
        InputError, InputTypeError: if an input has the wrong shape or dtype; the message names the layer's path.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> layer = nn.Linear(4, 2, rng=0)
    >>> layer(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    rows_independent = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        activation: str | ActivationFunction | None = None,
        tied: Parameter | None = None,
        rng: init.Rng,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise LayerOptionError(
                f"Linear: sizes must be 1 or more. Got {in_features} in and {out_features} out instead."
            )
        if tied is not None and tied.shape != (out_features, in_features):
            raise LayerOptionError(
                f"Linear: a tied weight must have the shape {(out_features, in_features)} (out, in). Got {tied.shape} instead."
            )
        rng = init.generator(rng)
        self.in_features, self.out_features = in_features, out_features
        self.transposed = tied is not None
        if tied is not None:
            self.weight = tied
        else:
            weight = init.fan_in_uniform((in_features, out_features), rng, dtype=dtype)
            self.weight = Parameter(weight, layout=TRANSPOSED)
        self.bias = None
        if bias:
            self.bias = Parameter(init.uniform((out_features,), rng, bound=1 / math.sqrt(in_features), dtype=dtype))
        self.activation = activation_function(activation)

    def forward(self, x: Any) -> Any:
        return self.with_activation(x, self.activation)

    def with_activation(self, x: Any, activation: ActivationFunction | None) -> Any:
        """Run this layer with another activation instead of its own."""
        weight, given = self.weight, x.value if isinstance(x, Tensor) else x
        dtype = getattr(given, "dtype", None)
        if dtype != weight.value.dtype or not given.ndim or given.shape[-1] != self.in_features:
            refuse_input(self, x, self.in_features, weight.dtype)
        return _linear(x, weight, self.bias, activation=activation, transposed=self.transposed)

    def extra_repr(self) -> str:
        parts = [f"{self.in_features} -> {self.out_features}"]
        if self.bias is None:
            parts.append("bias=False")
        if self.activation is not None:
            parts.append(self.activation.name)
        if self.transposed:
            parts.append("tied")
        return ", ".join(parts)
