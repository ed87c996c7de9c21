"""Winograd's matrices are exact, and its rounding stays near a direct sum's."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad.nn.convolution.geometry import Geometry
from allgrad.nn.convolution.patches import Patches
from allgrad.nn.convolution.selection import choose
from allgrad.nn.convolution.winograd import OUT, SIDE, TAPS, Winograd, _one_dimensional, transforms

AROUND = Geometry((3, 3), padding=((1, 1), (1, 1)))


def test_one_dimension_is_a_correlation() -> None:
    A, G, B = _one_dimensional()
    rng = np.random.default_rng(0)
    d, w = rng.standard_normal(SIDE), rng.standard_normal(TAPS)
    expected = [d[i : i + TAPS] @ w for i in range(OUT)]
    np.testing.assert_allclose(A @ ((G @ w) * (B @ d)), expected, rtol=1e-12)


@pytest.mark.parametrize(("channels", "limit"), [(32, 8.0), (256, 17.0)])
def test_rounding_in_float32_is_near_a_direct_sums(channels: int, limit: float) -> None:
    """In units of eps, of results with variance 1. A direct sum has 1.5 to 2.8 where BLAS adds in blocks, and 6.5 as one chain
    of 2304 steps; Winograd's method has 6 and 13.
    """
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 12, 12, channels)).astype(np.float32)
    w = (rng.standard_normal((3, 3, channels, 32)) / np.sqrt(9 * channels)).astype(np.float32)
    exact = np.empty((8, 12, 12, 32))
    algorithm = Patches(w.astype(float), AROUND, (12, 12), 8)
    for group in algorithm.groups_of(8):
        algorithm.forward(x[group].astype(float), exact[group])
    for kind, most in ((Patches, 8.0), (Winograd, limit)):
        y = np.empty(exact.shape, np.float32)
        algorithm = kind(w, AROUND, (12, 12), 8)
        for group in algorithm.groups_of(8):
            algorithm.forward(x[group], y[group])
        assert np.sqrt(np.mean((y - exact) ** 2)) < most * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("shape", "geometry", "image", "samples", "chosen"),
    [
        ((3, 3, 32, 64), AROUND, (28, 28), 1, "Winograd"),
        ((3, 3, 32, 64), AROUND, (28, 28), 64, "Winograd"),
        ((3, 3, 512, 512), AROUND, (4, 4), 4, "Patches"),  # too few tiles to pay for the kernel's transform
        ((3, 3, 3, 64), AROUND, (28, 28), 64, "Patches"),
        ((3, 3, 32, 64), AROUND, (5, 5), 64, "Patches"),  # 25 of the 64 pixels of its tiles
        ((3, 3, 32, 64), AROUND._replace(stride=(2, 2)), (28, 28), 64, "Patches"),
        ((3, 3, 16, 64), AROUND._replace(groups=2), (28, 28), 64, "Patches"),
        ((3, 3, 1, 64), AROUND._replace(groups=64), (28, 28), 64, "Depthwise"),
        ((1, 1, 32, 64), Geometry((1, 1)), (28, 28), 64, "Pointwise"),
        ((1, 1, 32, 64), Geometry((1, 1), (2, 2)), (28, 28), 64, "Patches"),
    ],
)
def test_choice(shape: tuple[int, ...], geometry: Geometry, image: tuple[int, int], samples: int, chosen: str) -> None:
    assert type(choose(np.zeros(shape, np.float32), geometry, image, samples)).__name__ == chosen


def test_constants_are_made_once() -> None:
    assert transforms(np.dtype(np.float32)) is transforms(np.dtype(np.float32))
