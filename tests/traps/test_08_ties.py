"""Trap 8: ties follow one documented convention, the same in both modes.

Equal extremes share evenly; |x| has derivative 0 at 0; equal keys are sorted stably, so the first takes the first place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import allgrad as ag

if TYPE_CHECKING:
    from collections.abc import Callable

CASES: dict[str, tuple[Callable[[Any], Any], list[float], list[float]]] = {
    "max": (np.max, [3, 1, 3, 3], [1 / 3, 0, 1 / 3, 1 / 3]),
    "min": (np.min, [1, 1, 3, 3], [1 / 2, 1 / 2, 0, 0]),
    "amax": (np.amax, [2, 2], [1 / 2, 1 / 2]),
    "nanmax": (np.nanmax, [2, np.nan, 2], [1 / 2, 0, 1 / 2]),
    "ptp": (np.ptp, [1, 1, 3, 3], [-1 / 2, -1 / 2, 1 / 2, 1 / 2]),
    "max with an initial value": (lambda x: np.max(x, initial=3.0), [3, 1, 3], [1 / 4, 0, 1 / 4]),
    "maximum.reduce": (lambda x: np.maximum.reduce(x), [3, 1, 3], [1 / 2, 0, 1 / 2]),
    "maximum(x, 0), relu": (lambda x: np.sum(np.maximum(x, 0)), [-1, 0, 2], [0, 1 / 2, 1]),
    "minimum": (lambda x: np.sum(np.minimum(x, 1.0)), [1, 2, 0], [1 / 2, 0, 1]),
    "fmax": (lambda x: np.sum(np.fmax(x, np.array([1.0, np.nan, 5.0]))), [1, 2, 3], [1 / 2, 1, 0]),
    "clip at its bounds": (lambda x: np.sum(np.clip(x, 0.0, 1.0)), [-1, 0, 0.5, 1, 2], [0, 1 / 2, 1, 1 / 2, 0]),
    "abs": (lambda x: np.sum(np.abs(x)), [-2, 0, 2], [-1, 0, 1]),
    "fabs": (lambda x: np.sum(np.fabs(x)), [-2, 0, 2], [-1, 0, 1]),
    "sort": (lambda x: np.sort(x) @ np.array([1.0, 10.0, 100.0]), [5, 5, 1], [10, 100, 1]),
    "median of two equal": (np.median, [2, 7, 2, 2], [0, 0, 1 / 2, 1 / 2]),
}


@pytest.mark.parametrize("name", CASES)
def test_ties_follow_the_convention_in_both_modes(name: str) -> None:
    f, at, want = CASES[name]
    x = np.array(at, dtype=float)
    np.testing.assert_allclose(ag.grad(f)(x), want)
    forward = [ag.jvp(f, (x,), (direction,))[1] for direction in np.eye(len(x))]
    np.testing.assert_allclose(forward, want)


def test_equal_arguments_share_evenly() -> None:
    x = np.array([1.0, 2.0])
    for f in (np.maximum, np.minimum, np.fmax, np.fmin):
        for gradient in ag.grad(lambda a, b, f=f: np.sum(f(a, b)), argnums=(0, 1))(x, x):
            np.testing.assert_array_equal(gradient, [0.5, 0.5])


def test_ties_along_one_axis_do_not_touch_another() -> None:
    x = np.array([[1.0, 1.0], [0.0, 5.0]])
    np.testing.assert_array_equal(ag.grad(lambda x: np.sum(np.max(x, axis=1)))(x), [[0.5, 0.5], [0, 1]])
    np.testing.assert_array_equal(ag.grad(lambda x: np.sum(np.max(x, axis=0)))(x), [[1, 0], [0, 1]])
