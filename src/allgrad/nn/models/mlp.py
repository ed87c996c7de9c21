"""A multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allgrad.nn import init
from allgrad.nn.activations import Activation
from allgrad.nn.dropout import Dropout
from allgrad.nn.errors import LayerOptionError
from allgrad.nn.linear import Linear
from allgrad.nn.module import Module
from allgrad.nn.sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Sequence


class MLP(Module):
    """Linear layers with an activation between them.

    x: (batch, ...) float, which is flattened to (batch, sizes[0]); result: (batch, sizes[-1]) float. The parameters of `layers`
    have the names of a PyTorch `nn.Sequential` of linear layers, activations, and dropouts.

    Args:
        sizes: lengths of the input, the hidden vectors, and the output.
        activation: a name in `activations.ACTIVATIONS`.
        dropout: probability in training, after each hidden layer.
        rng: source of the initial numbers.
        dtype: of the parameters and the input, float32 or float64.

    Raises:
        LayerOptionError: if there are fewer than two sizes, or the activation is unknown.
        InputError, InputTypeError: if an input has the wrong shape or dtype.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.models.MLP([784, 32, 10], rng=0)(np.zeros((5, 28, 28), np.float32)).shape
    (5, 10)
    """

    rows_independent = True

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        rng: init.Rng = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if len(sizes) < 2:
            raise LayerOptionError(
                f"MLP: sizes must be input, hidden widths, and output, at least two numbers. Got {list(sizes)} instead."
            )
        rng = init.generator(rng)
        layers: list[Module] = []
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            if i:
                layers.append(Activation(activation))
                layers.extend([Dropout(dropout)] if dropout else [])
            layers.append(Linear(fan_in, fan_out, rng=rng, dtype=dtype))
        self.layers = Sequential(*layers)

    def forward(self, x: Any) -> Any:
        return self.layers(x if x.ndim == 2 else np.reshape(x, (x.shape[0], -1)))
