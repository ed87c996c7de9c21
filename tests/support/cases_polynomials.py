"""Cases for polynomials by their coefficients, np.emath, sliding windows, weighted histograms and the methods of ufuncs."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case, away_from_zero, normal, one_axis, separated, uniform
from numpy.lib.stride_tricks import sliding_window_view


def real_roots(rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.poly(np.array([-2.0, -0.7, 0.6, 1.8]) + rng.uniform(-0.3, 0.3, 4)))


def sorted_roots(p: Any) -> Any:
    return np.sort(np.roots(p))


def division(rng: np.random.Generator) -> Any:
    return (away_from_zero(rng, (int(rng.integers(1, 6)),)), away_from_zero(rng, (int(rng.integers(1, 4)),))), {}


def fit(rng: np.random.Generator) -> Any:
    y = normal(rng, [(6,), (6, 2)][rng.integers(2)])
    return (np.linspace(-1, 1, 6) + rng.uniform(-0.1, 0.1, 6), y, 2), {"w": uniform(rng, (6,), 0.5, 1.5)}


def windows(rng: np.random.Generator) -> Any:
    x = normal(rng, (3, 4))
    return (x, *[(2, 0), (3, 1), ((2, 3),), ((1, 2), (1, 0)), (2, -1)][rng.integers(5)]), {}


def histogram(rng: np.random.Generator) -> Any:
    bins = [4, np.array([-0.5, 0.0, 0.7, 2.0])][rng.integers(2)]
    return (normal(rng, (9,)),), {"bins": bins, "density": bool(rng.integers(2)), "weights": uniform(rng, (9,), 0.5, 2)}


def along_an_axis(draw: Any, **keywords: Any) -> Any:
    def sample(rng: np.random.Generator) -> Any:
        return (draw(rng, (3, 4)),), {"axis": one_axis(rng, 2), **keywords}

    return sample


def segments(rng: np.random.Generator) -> Any:
    return (away_from_zero(rng, (5, 2)), [[0, 2, 4], [1, 0, 3, 3], [4]][rng.integers(3)]), {}


def beyond(low: float, high: float) -> Any:
    return lambda rng: ((uniform(rng, (4,), low, high),), {})


REDUCED = [np.subtract, np.hypot, np.logaddexp, np.logaddexp2, np.true_divide, np.fmax]
ACCUMULATED = [np.subtract, np.logaddexp, np.maximum, np.minimum, np.fmax, np.fmin]
IN_SEGMENTS = [np.add, np.multiply, np.maximum, np.subtract]

CASES = [
    Case("roots", sorted_roots, lambda rng: ((real_roots(rng),), {}), covers=(np.roots,), float32=False, rtol=1e-5),
    Case("poly", np.poly, lambda rng: ((normal(rng, (4,)),), {})),
    Case("poly of a matrix", np.poly, lambda rng: ((np.diag([1.0, 2.0, 4.0]) + 0.2 * normal(rng, (3, 3)),), {})),
    Case("polydiv", np.polydiv, division, (0, 1), rtol=1e-5, float32=False),
    Case("polyfit", np.polyfit, fit, (0, 1, "w"), rtol=1e-5, rtol32=2e-2),
    Case("emath.sqrt", np.emath.sqrt, beyond(0.5, 2.0)),
    Case("emath.log", np.emath.log, beyond(0.5, 2.0)),
    Case("emath.log2", np.emath.log2, beyond(0.5, 2.0)),
    Case("emath.log10", np.emath.log10, beyond(0.5, 2.0)),
    Case("emath.logn", np.emath.logn, lambda rng: ((2.5, uniform(rng, (3,), 0.5, 2.0)), {}), (0, 1), float32=False),
    Case("emath.power", np.emath.power, lambda rng: ((uniform(rng, (3,), 0.5, 2.0), 1.5), {})),
    Case("emath.arcsin", np.emath.arcsin, beyond(-0.8, 0.8)),
    Case("emath.arccos", np.emath.arccos, beyond(-0.8, 0.8)),
    Case("emath.arctanh", np.emath.arctanh, beyond(-0.8, 0.8)),
    Case("emath.sqrt of negative numbers", np.emath.sqrt, beyond(-2.0, -0.5)),
    Case("emath.log of negative numbers", np.emath.log, beyond(-2.0, -0.5)),
    Case("emath.arcsin beyond 1", np.emath.arcsin, beyond(1.5, 3.0), rtol=1e-5),
    Case("emath.arccos beyond 1", np.emath.arccos, beyond(1.5, 3.0), rtol=1e-5),
    Case("emath.arctanh beyond 1", np.emath.arctanh, beyond(1.5, 3.0), rtol=1e-5),
    Case("sliding_window_view", sliding_window_view, windows),
    Case("histogram", np.histogram, histogram, ("weights",), spellings=False),
    *(Case(f"{u.__name__}.reduce", u.reduce, along_an_axis(away_from_zero), float32=False) for u in REDUCED),
    *(Case(f"{u.__name__}.accumulate", u.accumulate, along_an_axis(separated)) for u in ACCUMULATED),
    *(Case(f"{u.__name__}.reduceat", u.reduceat, segments, rtol=1e-5) for u in IN_SEGMENTS),
]
