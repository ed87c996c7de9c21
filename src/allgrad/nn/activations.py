"""Activation functions.

An elementwise activation is an `ActivationFunction`. It has a value and a derivative written by hand for plain arrays, which a
linear layer runs on blocks of its product while they are in cache, and the same function in NumPy calls for higher orders. At 0
the derivative of ReLU and similar functions is that of the left side (0 for ReLU), as in PyTorch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import kernels
from allgrad.autodiff import Fused, Primitive
from allgrad.autodiff.modes import CURRENT
from allgrad.kernels.erf import erfc_positive
from allgrad.nn.errors import LayerOptionError
from allgrad.nn.module import Module
from allgrad.nn.primitives import exp, log, tanh

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class ActivationFunction:
    """An elementwise nonlinearity.

    Attributes:
        name: as in `ACTIVATIONS`.
        forward: (x, y, derivative): writes the value to y and, if `derivative` is not None, the derivative to it. These must be
            different arrays, since loops over a single array do not vectorize.
        backward: (cotangent of y, saved) -> cotangent of x, a new array; `saved` is y or the derivative.
        reference: the same function in differentiable NumPy calls.
        needs_derivative: whether backward needs the derivative. Otherwise y is enough, which costs no extra memory.
    """

    name: str
    forward: Callable[[Array, Array, Array | None], Any]
    backward: Callable[[Array, Array], Array]
    reference: Callable[[Any], Any]
    needs_derivative: bool


def _activate_forward(x: Array, *, activation: ActivationFunction) -> tuple[Array, Any]:
    flat = np.ascontiguousarray(x).reshape(-1)  # 0-d arrays would become scalars on the way
    y = np.empty(flat.shape, x.dtype)
    derivative = np.empty_like(y) if activation.needs_derivative and CURRENT.get().recording else None
    activation.forward(flat, y, derivative)
    return y.reshape(x.shape), y if derivative is None else derivative


def _activate_backward(g: Array, kept: Array, *, needs: Any, activation: ActivationFunction) -> tuple[Array]:  # noqa: ARG001
    return (activation.backward(np.ascontiguousarray(g).reshape(-1), kept).reshape(g.shape),)


_activate = Fused(
    _activate_forward,
    _activate_backward,
    name="activation",
    reference=lambda x, *, activation: activation.reference(x),
)


def activate(x: Any, activation: ActivationFunction) -> Any:
    """Apply an elementwise activation: x of any shape, float."""
    return _activate(x, activation=activation)


def _with_slope(name: str, forward: Callable[..., Any], reference: Callable[[Any], Any]) -> ActivationFunction:
    return ActivationFunction(name, forward, lambda g, derivative: g * derivative, reference, True)


# ReLU and similar functions.


def _relu(x: Array, y: Array, derivative: Array | None) -> None:  # noqa: ARG001
    kernels.active().relu_forward(x, out=y)


def _relu_backward(g: Array, y: Array) -> Array:
    return kernels.active().relu_backward(g, y)


RELU = ActivationFunction("relu", _relu, _relu_backward, lambda x: np.where(x > 0, x, _zero(x)), False)


def _zero(x: Any) -> Array:
    return np.zeros((), x.dtype)


def leaky_relu(below: float) -> ActivationFunction:
    """x where x > 0, else `below` times x (Maas, Hannun & Ng 2013)."""

    def forward(x: Array, y: Array, derivative: Array | None) -> None:
        factor = np.where(x > 0, x.dtype.type(1), x.dtype.type(below))
        np.multiply(x, factor, out=y)
        if derivative is not None:
            derivative[...] = factor

    return _with_slope("leaky_relu", forward, lambda x: np.where(x > 0, x, x * below))


def elu(alpha: float) -> ActivationFunction:
    """x where x > 0, else alpha (exp(x) - 1) (Clevert, Unterthiner & Hochreiter 2016)."""

    def forward(x: Array, y: Array, derivative: Array | None) -> None:
        kernels.active().elu(x, alpha, out=y, derivative=derivative)

    def reference(x: Any) -> Any:
        below = np.where(x > 0, _zero(x), x)  # exp would overflow where its value is not used
        return np.where(x > 0, x, (exp(below) - 1) * alpha)

    return _with_slope("elu", forward, reference)


# Functions that contain a sigmoid or an error function.


def _sigmoid(x: Array, y: Array, derivative: Array | None = None) -> None:  # noqa: ARG001
    half = x.dtype.type(0.5)  # (1 + tanh(x / 2)) / 2 neither overflows nor branches
    np.multiply(x, half, out=y)
    kernels.active().tanh(y, out=y)
    np.multiply(y, half, out=y)
    np.add(y, half, out=y)


def sigmoid_reference(x: Any) -> Any:
    return tanh(x * 0.5) * 0.5 + 0.5


SIGMOID = ActivationFunction("sigmoid", _sigmoid, lambda g, y: g * (y - y * y), sigmoid_reference, False)


def _tanh(x: Array, y: Array, derivative: Array | None) -> None:  # noqa: ARG001
    kernels.active().tanh(x, out=y)


def _tanh_backward(g: Array, y: Array) -> Array:
    d: Array = np.multiply(y, y)
    np.subtract(y.dtype.type(1), d, out=d)
    np.multiply(d, g, out=d)
    return d


TANH = ActivationFunction("tanh", _tanh, _tanh_backward, tanh, False)


def _silu(x: Array, y: Array, derivative: Array | None) -> None:
    s = np.empty_like(x)
    _sigmoid(x, s)
    np.multiply(x, s, out=y)
    if derivative is not None:
        np.subtract(s.dtype.type(1), s, out=derivative)  # s + y (1 - s)
        np.multiply(derivative, y, out=derivative)
        np.add(derivative, s, out=derivative)


SILU = _with_slope("silu", _silu, lambda x: x * sigmoid_reference(x))


def _softplus(x: Array, y: Array, derivative: Array | None) -> None:
    kernels.active().softplus(x, out=y)
    if derivative is not None:
        _sigmoid(x, derivative)


def softplus_reference(x: Any) -> Any:
    size = np.where(x > 0, x, -x)
    return np.where(x > 0, x, _zero(x)) + log(1 + exp(-size))


SOFTPLUS = _with_slope("softplus", _softplus, softplus_reference)


def _gelu(x: Array, y: Array, derivative: Array | None) -> None:
    kernels.active().gelu(x, out=y, derivative=derivative)


def _gelu_tanh(x: Array, y: Array, derivative: Array | None) -> None:
    kernels.active().gelu_tanh(x, out=y, derivative=derivative)


def _normal_cdf(x: Array) -> Array:
    size = np.asarray(np.abs(x), np.float64)
    tail = 0.5 * erfc_positive(size * math.sqrt(0.5))
    lower: Array = np.where(np.asarray(x) > 0, 1 - tail, tail)
    return lower.astype(x.dtype)


normal_cdf = Primitive(
    _normal_cdf,
    name="normal_cdf",
    vjp={"x": lambda g, x: g * _normal_density(x)},
    jvp={"x": lambda t, x: t * _normal_density(x)},
)
"""The distribution function of the standard normal distribution, (1 + erf(x / sqrt 2)) / 2."""


def _normal_density(x: Any) -> Any:
    return exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))


def _gelu_tanh_reference(x: Any) -> Any:
    return x * (0.5 + 0.5 * tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


GELU_EXACT = _with_slope("gelu", _gelu, lambda x: x * normal_cdf(x))
GELU_TANH = _with_slope("gelu_tanh", _gelu_tanh, _gelu_tanh_reference)

ACTIVATIONS: dict[str, ActivationFunction] = {
    "relu": RELU,
    "leaky_relu": leaky_relu(0.01),
    "elu": elu(1.0),
    "gelu": GELU_EXACT,
    "gelu_tanh": GELU_TANH,
    "silu": SILU,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
}
"""The elementwise activations by name, with PyTorch's defaults."""


def activation_function(activation: str | ActivationFunction | None) -> ActivationFunction | None:
    """The activation of this name; an ActivationFunction and None are returned as they are.

    Raises:
        ValueError: if there is none of this name.
    """
    if activation is None or isinstance(activation, ActivationFunction):
        return activation
    if activation not in ACTIVATIONS:
        raise LayerOptionError(
            f"activation {activation!r} is unknown. Choose one of {', '.join(sorted(ACTIVATIONS))}, or None."
        )
    return ACTIVATIONS[activation]


class Activation(Module):
    """An elementwise activation by name. `nn.Sequential` runs it inside the layer before it where it can.

    x: any shape, float; result: the same shape.

    Args:
        activation: a name in `activations.ACTIVATIONS`, or an ActivationFunction.

    Raises:
        LayerOptionError: if the activation is unknown.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.Activation("relu")(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    rows_independent = True

    def __init__(self, activation: str | ActivationFunction) -> None:
        found = activation_function(activation)
        assert found is not None
        self.activation = found

    def forward(self, x: Any) -> Any:
        return _activate(x, activation=self.activation)

    def extra_repr(self) -> str:
        return self.activation.name if type(self) is Activation else ""


class ReLU(Activation):
    """max(x, 0).

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.ReLU()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    rows_independent = True

    def __init__(self) -> None:
        super().__init__(RELU)


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope x."""

    rows_independent = True

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(leaky_relu(negative_slope))
        self.negative_slope = negative_slope

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Activation):
    """x where x > 0, else alpha (exp(x) - 1)."""

    rows_independent = True

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(elu(alpha))
        self.alpha = alpha

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Activation):
    """x Phi(x), with the normal distribution function Phi (Hendrycks & Gimpel 2016).

    Args:
        approximate: "none", or "tanh" for the approximation that GPT-2 uses.

    Raises:
        LayerOptionError: for another `approximate`.
    """

    rows_independent = True

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise LayerOptionError(f"GELU: approximate must be 'none' or 'tanh'. Got {approximate!r} instead.")
        super().__init__(GELU_EXACT if approximate == "none" else GELU_TANH)
        self.approximate = approximate

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Activation):
    """x sigmoid(x), also called swish."""

    rows_independent = True

    def __init__(self) -> None:
        super().__init__(SILU)


class Tanh(Activation):
    """tanh(x)."""

    rows_independent = True

    def __init__(self) -> None:
        super().__init__(TANH)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    rows_independent = True

    def __init__(self) -> None:
        super().__init__(SIGMOID)


class Softplus(Activation):
    """log(1 + exp(x))."""

    rows_independent = True

    def __init__(self) -> None:
        super().__init__(SOFTPLUS)
