"""Small models of a few leaves, driven by gradients that are given."""

import numpy as np
import pytest

import allgrad as ag

SHAPES = {"w": (7, 5), "b": (5,), "conv": (4, 3, 3, 3), "scale": (), "tall": (20, 3)}


@pytest.fixture
def rng():
    return np.random.default_rng(20261123)


@pytest.fixture
def leaves(rng):
    """Make named leaves of the given shapes (default: a matrix, a vector, a kernel, a scalar, a tall matrix)."""

    def make(dtype=np.float64, shapes=SHAPES):
        return {n: ag.tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for n, s in shapes.items()}

    return make


@pytest.fixture
def give():
    """Leave the given gradients on leaves, as backward would."""

    def backward(leaves, gradients):
        for name, gradient in gradients.items():
            np.sum(leaves[name] * gradient).backward()

    return backward
