"""Activation functions.

An elementwise one is a `Curve`: value and derivative written by hand on plain arrays, which a linear layer can run on its own
output without another pass over memory, and the same function in NumPy calls for higher orders. At 0 the derivative of ReLU
and its kin is that of the left side (0 for ReLU), as in PyTorch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad import kernels
from allgrad.autodiff import Fused, Primitive
from allgrad.autodiff.modes import CURRENT
from allgrad.kernels.erf import erfc_positive
from allgrad.nn.module import Module

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]


class Curve(NamedTuple):
    """An elementwise nonlinearity.

    Attributes:
        forward: (x, out) -> (y, residual); `out` is None, or an array for y, which may be x.
        backward: (cotangent of y, residual) -> cotangent of x, a new array.
        reference: the same function in differentiated NumPy calls.
    """

    name: str
    forward: Callable[[Array, Array | None], tuple[Array, Array | None]]
    backward: Callable[[Array, Any], Array]
    reference: Callable[[Any], Any]


def _activate_forward(x: Array, *, curve: Curve) -> tuple[Array, Any]:
    if x.ndim:
        return curve.forward(x, None)
    y, residual = curve.forward(x.reshape(1), None)  # NumPy makes scalars of 0-d arrays on the way
    return y.reshape(()), residual


def _activate_backward(g: Array, residual: Any, *, needs: Any, curve: Curve) -> tuple[Array]:  # noqa: ARG001
    return (curve.backward(g if g.ndim else g.reshape(1), residual).reshape(g.shape),)


_activate = Fused(
    _activate_forward,
    _activate_backward,
    name="activation",
    reference=lambda x, *, curve: curve.reference(x),
)


def activate(x: Any, curve: Curve) -> Any:
    """The nonlinearity, entry by entry."""
    return _activate(x, curve=curve)


def _times(g: Array, derivative: Array) -> Array:
    return g * derivative


# ReLU and its kin.


def _relu(x: Array, out: Array | None) -> tuple[Array, Array]:
    y = kernels.active().relu_forward(x, out=out)
    return y, y


RELU = Curve("relu", _relu, lambda g, y: kernels.active().relu_backward(g, y), lambda x: np.where(x > 0, x, _zero(x)))


def _zero(x: Any) -> Array:
    return np.zeros((), x.dtype)


def leaky_relu_curve(slope: float) -> Curve:
    """x where x > 0, else slope x. Maas et al. 2013."""

    def forward(x: Array, out: Array | None) -> tuple[Array, Array]:
        derivative = np.where(x > 0, x.dtype.type(1), x.dtype.type(slope))
        return np.multiply(x, derivative, out=out), derivative

    return Curve("leaky_relu", forward, _times, lambda x: np.where(x > 0, x, x * slope))


def elu_curve(alpha: float) -> Curve:
    """x where x > 0, else alpha (exp(x) - 1). Clevert et al. 2016."""

    def forward(x: Array, out: Array | None) -> tuple[Array, Array]:
        scalar = x.dtype.type
        negative = np.expm1(np.minimum(x, scalar(0))) * scalar(alpha)
        derivative = np.where(x > 0, scalar(1), negative + scalar(alpha))
        y = np.maximum(x, scalar(0), out=out)
        return np.add(y, negative, out=y), derivative

    def reference(x: Any) -> Any:
        below = np.where(x > 0, _zero(x), x)  # exp would overflow where it is not taken
        return np.where(x > 0, x, (np.exp(below) - 1) * alpha)

    return Curve("elu", forward, _times, reference)


# Those with a sigmoid or an error function in them.


def _sigmoid_of(x: Array) -> Array:
    # (1 + tanh(x / 2)) / 2 neither overflows nor branches.
    half = x.dtype.type(0.5)
    y: Array = np.multiply(x, half)
    np.tanh(y, out=y)
    np.multiply(y, half, out=y)
    np.add(y, half, out=y)
    return y


def _sigmoid(x: Array, out: Array | None) -> tuple[Array, Array]:
    y = _sigmoid_of(x)
    if out is not None:
        out[...] = y
    return y, y


def sigmoid_reference(x: Any) -> Any:
    return np.tanh(x * 0.5) * 0.5 + 0.5


SIGMOID = Curve("sigmoid", _sigmoid, lambda g, y: g * (y - y * y), sigmoid_reference)


def _tanh(x: Array, out: Array | None) -> tuple[Array, Array]:
    y = np.tanh(x, out=out)
    return y, y


def _tanh_backward(g: Array, y: Array) -> Array:
    d: Array = np.multiply(y, y)
    np.subtract(y.dtype.type(1), d, out=d)
    np.multiply(d, g, out=d)
    return d


TANH = Curve("tanh", _tanh, _tanh_backward, lambda x: np.tanh(x))


def _silu(x: Array, out: Array | None) -> tuple[Array, Array]:
    s = _sigmoid_of(x)
    y = np.multiply(x, s, out=out)
    derivative = np.subtract(s.dtype.type(1), s)  # s + y (1 - s)
    np.multiply(derivative, y, out=derivative)
    return y, np.add(derivative, s, out=derivative)


SILU = Curve("silu", _silu, _times, lambda x: x * sigmoid_reference(x))


def _softplus(x: Array, out: Array | None) -> tuple[Array, Array]:
    derivative = _sigmoid_of(x)
    return np.logaddexp(x, x.dtype.type(0), out=out), derivative


def softplus_reference(x: Any) -> Any:
    size = np.where(x > 0, x, -x)
    return np.where(x > 0, x, _zero(x)) + np.log(1 + np.exp(-size))


SOFTPLUS = Curve("softplus", _softplus, _times, softplus_reference)


def _gelu_with(kernel: str) -> Callable[[Array, Array | None], tuple[Array, Array | None]]:
    def forward(x: Array, out: Array | None) -> tuple[Array, Array | None]:
        derivative = np.empty(x.shape, x.dtype) if CURRENT.get().recording else None
        return getattr(kernels.active(), kernel)(x, out=out, derivative=derivative), derivative

    return forward


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
    return np.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))


def _gelu_tanh_reference(x: Any) -> Any:
    return x * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))


GELU_EXACT = Curve("gelu", _gelu_with("gelu"), _times, lambda x: x * normal_cdf(x))
GELU_TANH = Curve("gelu_tanh", _gelu_with("gelu_tanh"), _times, _gelu_tanh_reference)

CURVES: dict[str, Curve] = {
    "relu": RELU,
    "leaky_relu": leaky_relu_curve(0.01),
    "elu": elu_curve(1.0),
    "gelu": GELU_EXACT,
    "gelu_tanh": GELU_TANH,
    "silu": SILU,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
}
"""The elementwise activations by name, with PyTorch's defaults."""


def curve(activation: str | Curve | None) -> Curve | None:
    """The curve of this name; a Curve and None are returned as they are.

    Raises:
        ValueError: if there is none of this name.
    """
    if activation is None or isinstance(activation, Curve):
        return activation
    if activation not in CURVES:
        raise ValueError(f"activation {activation!r} is unknown. Choose one of {', '.join(sorted(CURVES))}, or None.")
    return CURVES[activation]


class Activation(Module):
    """An elementwise activation by name; `nn.Sequential` runs one that follows a linear layer inside that layer.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.Activation("relu")(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, activation: str | Curve) -> None:
        found = curve(activation)
        assert found is not None
        self.curve = found

    def forward(self, x: Any) -> Any:
        return _activate(x, curve=self.curve)

    def extra_repr(self) -> str:
        return self.curve.name if type(self) is Activation else ""


class ReLU(Activation):
    """max(x, 0).

    >>> import numpy as np
    >>> from allgrad import nn
    >>> nn.ReLU()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self) -> None:
        super().__init__(RELU)


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(leaky_relu_curve(negative_slope))
        self.negative_slope = negative_slope

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Activation):
    """x where x > 0, else alpha (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(elu_curve(alpha))
        self.alpha = alpha

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Activation):
    """x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016).

    Args:
        approximate: "none", or "tanh" for the form of GPT-2.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate must be 'none' or 'tanh'. Got {approximate!r} instead.")
        super().__init__(GELU_EXACT if approximate == "none" else GELU_TANH)
        self.approximate = approximate

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Activation):
    """x sigmoid(x), also called swish."""

    def __init__(self) -> None:
        super().__init__(SILU)


class Tanh(Activation):
    def __init__(self) -> None:
        super().__init__(TANH)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    def __init__(self) -> None:
        super().__init__(SIGMOID)


class Softplus(Activation):
    """log(1 + exp(x))."""

    def __init__(self) -> None:
        super().__init__(SOFTPLUS)
