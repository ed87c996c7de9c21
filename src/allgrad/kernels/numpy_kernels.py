"""The NumPy kernels: always there."""

from __future__ import annotations

from allgrad.kernels import (
    activations,
    attention,
    gradients,
    losses,
    norms,
    pooling,
    random,
    recurrence,
    rounding,
    softmax,
    tiles,
    updates,
)
from allgrad.kernels.interface import Kernels

kernels = Kernels(
    "numpy",
    activations=activations,
    attention=attention,
    gradients=gradients,
    losses=losses,
    norms=norms,
    pooling=pooling,
    random=random,
    recurrence=recurrence,
    rounding=rounding,
    softmax=softmax,
    tiles=tiles,
    updates=updates,
)
