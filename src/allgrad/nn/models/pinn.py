"""A physics-informed network: coordinates to fields, with derivatives of its result in the loss.

    model = nn.models.PINN([1, 32, 32, 1], bounds=[(0.0, 1.0)], rng=0)
    u_xx = partial(model, 0, order=2)
    residual = u_xx(x) + np.sin(x)          # of u'' = -sin x, at points x (n, 1)
    np.mean(residual * residual).backward()

Derivatives with respect to coordinates are forward mode, one level an order; the loss's gradient runs backward over them.
Raissi, Perdikaris & Karniadakis, J. Comput. Phys. 378 (2019).
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
    """Points (n, coordinates) to fields (n, outputs): linear layers with a smooth activation between them.

    Weights start Xavier-normal, biases at 0.

    Args:
        sizes: coordinates, hidden widths, outputs.
        bounds: (low, high) of each coordinate, which the network maps to [-1, 1] first; None takes coordinates as they are.
        activation: smooth, since its derivatives stand in the loss: "tanh", "silu", "softplus", "gelu", "gelu_tanh",
            "sigmoid".
        rng: where the initial numbers come from.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.models.PINN([2, 16, 1], bounds=[(0, 1), (0, 2)], rng=0)(np.zeros((7, 2), np.float32)).shape
    (7, 1)
    """

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
            raise LayerOptionError(f"PINN: sizes are coordinates, hidden widths, outputs. Got {list(sizes)} instead.")
        if activation in ("relu", "leaky_relu", "elu"):
            raise LayerOptionError(
                f"PINN: derivatives of {activation!r} are not smooth. Choose 'tanh', 'silu' or 'softplus'."
            )
        if bounds is not None and (len(bounds) != sizes[0] or any(not low < high for low, high in bounds)):
            raise LayerOptionError(
                f"PINN: bounds are (low, high), low < high, of {sizes[0]} coordinates. Got {bounds!r}."
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
                f"{self.where()}: expects points (n, {len(self.centre)}), a coordinate a column. Got shape {x.shape} instead."
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
