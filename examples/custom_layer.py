"""A custom layer in a custom model, which configurations can name because this file is a plugin.

    python examples/custom_layer.py
    allgrad train configs/diamonds.yaml --plugin examples/custom_layer.py model.name=periodic train.epochs=1

The layer computes sin(x w + b). It is NumPy code, so nobody has to write its derivative.
"""

import math

import numpy as np

import allgrad as ag
from allgrad import nn
from allgrad.train import register_model


class Periodic(nn.Module):
    """sin(x w + b); x: (batch, inputs) float; result: (batch, features) float."""

    def __init__(self, inputs: int, features: int, *, rng: np.random.Generator) -> None:
        self.weight = nn.Parameter(rng.standard_normal((inputs, features), dtype=np.float32))
        self.bias = nn.Parameter(rng.uniform(0, 2 * np.pi, features).astype(np.float32))

    def forward(self, x):
        return np.sin(x @ self.weight + self.bias)


@register_model("periodic")
def periodic(info, rng, *, features: int = 64):
    """Periodic features and two linear layers. The keyword arguments are the options under `model` in a configuration."""
    return nn.Sequential(
        Periodic(math.prod(info.input_shape), features, rng=rng),
        nn.Linear(features, 64, activation="relu", rng=rng),
        nn.Linear(64, info.outputs, rng=rng),
    )


def main() -> None:
    layer = Periodic(2, 3, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((4, 2), dtype=np.float32)
    np.sum(layer(x) ** 2).backward()
    print(layer)
    for name, parameter in layer.named_parameters():
        print(f"{name:8s} gradient {np.round(parameter.grad, 3).tolist()}")
    ag.check_grads(layer, x.astype(np.float64))
    print("The derivatives with respect to the input agree with numerical differentiation.")


if __name__ == "__main__":
    main()
