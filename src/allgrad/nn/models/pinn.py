"""A physics-informed network: a map from coordinates to fields whose derivatives are part of the loss.

    model = nn.models.PINN([1, 32, 32, 1], bounds=[(0.0, 1.0)], rng=0)
    u_xx = partial(model, 0, order=2)
    residual = u_xx(x) + np.sin(x)          # for u'' = -sin x, at points x: (n, 1) float
    np.mean(residual * residual).backward()

Derivatives with respect to coordinates use forward mode, one level per order. The gradient of the loss runs backward over them.

Reference: Raissi, Perdikaris & Karniadakis, "Physics-informed neural networks" (J. Comput. Phys. 378, 2019).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.autodiff import jvp
from allgrad.nn import init
from allgrad.nn.activations import activation_function
from allgrad.nn.errors import InputError, LayerOptionError
from allgrad.nn.linear import Linear
from allgrad.nn.module import Module
from allgrad.nn.sequential import ModuleList

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class PINN(Module):
    """Linear layers with a smooth activation between them.

    x (points): (n, coordinates) float; result (fields): (n, outputs) float. Weights start Xavier-normal, biases at 0.

    Args:
        sizes: number of coordinates, hidden widths, number of outputs.
        bounds: (low, high) of each coordinate, which is mapped to [-1, 1] first. None: coordinates are used as they are.
        activation: a smooth one, because its derivatives are part of the loss: "tanh", "silu", "softplus", "gelu", "gelu_tanh",
            or "sigmoid".
        rng: source of the initial numbers.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if options do not fit together.
        InputError: if an input has the wrong shape.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.models.PINN([2, 16, 1], bounds=[(0, 1), (0, 2)], rng=0)(np.zeros((7, 2), np.float32)).shape
    (7, 1)
    """

    rows_independent = True

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        bounds: Sequence[tuple[float, float]] | None = None,
        activation: str = "tanh",
        rng: init.Rng = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if len(sizes) < 2:
            raise LayerOptionError(
                f"PINN: sizes must be coordinates, hidden widths, and outputs, at least two. Got {list(sizes)} instead."
            )
        if activation in ("relu", "leaky_relu", "elu"):
            raise LayerOptionError(
                f"PINN: {activation!r} is not smooth, and its derivatives are part of the loss. Use 'tanh' or 'silu'."
            )
        if bounds is not None and (len(bounds) != sizes[0] or any(not low < high for low, high in bounds)):
            raise LayerOptionError(
                f"PINN: bounds must be {sizes[0]} pairs (low, high) with low < high. Got {bounds!r} instead."
            )
        rng = init.generator(rng)
        limits = np.array([(-1, 1)] * sizes[0] if bounds is None else bounds, dtype)
        self.centre = limits.mean(axis=1)
        self.scale = 2 / (limits[:, 1] - limits[:, 0])
        self.layers = ModuleList(Linear(fan_in, fan_out, rng=rng, dtype=dtype) for fan_in, fan_out in pairwise(sizes))
        self.activation = activation_function(activation)
        for layer in self.layers:
            assert isinstance(layer, Linear)
            assert layer.bias is not None
            layer.weight.assign(init.xavier_normal(layer.weight.shape, rng, dtype=dtype))
            layer.bias.assign(np.zeros(layer.bias.shape))

    def forward(self, x: Any) -> Any:
        if x.ndim != 2 or x.shape[1] != len(self.centre):
            raise InputError(
                f"{self.where()}: expects points (n, {len(self.centre)}), one column per coordinate. Got shape {x.shape} instead."
            )
        x = (x - self.centre) * self.scale
        *hidden, last = self.layers
        for layer in hidden:
            assert isinstance(layer, Linear)
            x = layer.with_activation(x, self.activation)
        return last(x)


def partial(f: Callable[[Any], Any], axis: int, order: int = 1) -> Callable[[Any], Any]:
    """The partial derivative of a field along a coordinate.

    Args:
        f: points (n, coordinates) to fields, each row for itself.
        axis: which coordinate.
        order: how many times.

    Returns:
        A function of points, with f's result shape.

    >>> import numpy as np
    >>> from allgrad.nn.models import partial
    >>> f = lambda x: x[:, :1] ** 3 * x[:, 1:]
    >>> partial(f, 0, order=2)(np.array([[2.0, 5.0]]))
    array([[60.]])
    """
    if order < 1:
        raise LayerOptionError(f"partial: order must be 1 or more. Got {order!r} instead.")

    def derivative(x: Any) -> Any:
        direction = np.zeros(x.shape, x.dtype)
        direction[:, axis] = 1
        return jvp(f, (x,), (direction,))[1]

    return derivative if order == 1 else partial(derivative, axis, order - 1)
