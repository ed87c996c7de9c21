"""Derivatives of NumPy's elementwise functions (ufuncs), one line each: the factor by which a cotangent or tangent is multiplied."""

from __future__ import annotations

import numpy as np

from allgrad.autodiff.primitive import LINEAR
from allgrad.numpy.dispatch import elementwise, ufunc_rule

# Arithmetic.
ufunc_rule(np.add, vjp={"x": lambda g: g, "y": lambda g: g}, jvp={"x": lambda t: t, "y": lambda t: t})
ufunc_rule(np.subtract, vjp={"x": lambda g: g, "y": lambda g: -g}, jvp={"x": lambda t: t, "y": lambda t: -t})
elementwise(np.multiply, x=lambda y: y, y=lambda x: x)
ufunc_rule(
    np.true_divide,
    vjp={"x": lambda g, y: g / y, "y": lambda g, ans, y: -g * ans / y},
    jvp={"x": lambda t, y: t / y, "y": lambda t, ans, y: -t * ans / y},
)
ufunc_rule(np.negative, vjp={"x": lambda g: -g}, jvp={"x": LINEAR})
ufunc_rule(np.positive, vjp={"x": lambda g: g}, jvp={"x": LINEAR})

# Exponentials and trigonometry.
elementwise(np.exp, x=lambda ans: ans)
elementwise(np.log, x=lambda x: 1 / x)
elementwise(np.sqrt, x=lambda ans: 0.5 / ans)
elementwise(np.square, x=lambda x: 2 * x)
elementwise(np.sin, x=lambda x: np.cos(x))
elementwise(np.cos, x=lambda x: -np.sin(x))
elementwise(np.tanh, x=lambda ans: 1 - ans * ans)
