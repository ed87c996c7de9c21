"""Interpolation by values, sites and points: values, both modes, second order."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

from cases import Case, check, drawn

import allgrad as ag
from allgrad.scipy import interpolate


def case(name, function, *draws, label="", **options):
    options = {"spellings": False, "float32": False, "rtol": 1e-5} | options
    return Case(
        f"{name}{label}", function, lambda rng: (tuple(d(rng) for d in draws), {}), tuple(range(len(draws))), **options
    )


def m(*shape):
    return lambda rng: rng.standard_normal(shape)


def sites(n):
    return lambda rng: np.arange(n) + rng.uniform(-0.2, 0.2, n)


def points(n):
    """Points in [0.3, n - 1.3], away from the sites."""
    return lambda rng: rng.integers(0, n - 1, (2, 2)) + rng.uniform(0.35, 0.65, (2, 2))


def of(name, **keywords):
    cls = getattr(interpolate, name)
    return lambda x, y, at: cls(x, y, **keywords)(at)


def by_values(name, x, **keywords):
    cls = getattr(interpolate, name)
    return lambda y, at: cls(x, y, **keywords)(at)


GRID = (np.array([0.0, 1.0, 2.5]), np.array([0.0, 2.0, 3.0, 4.0]))
KNOTS = np.array([0.0, 0, 0, 0, 1.5, 2.5, 4, 4, 4, 4])
EVEN = np.arange(6.0)
SIX = (sites(6), m(6), points(6))


def inside(rng):
    return np.stack([rng.uniform(0.1, 0.9, 4), 2 + rng.uniform(0.1, 0.9, 4)], axis=-1)


CASES = [
    case("CubicSpline", of("CubicSpline"), *SIX),
    case("CubicSpline", of("CubicSpline"), sites(6), m(6, 2), points(6), label=" of vectors"),
    case("CubicSpline", of("CubicSpline", axis=1), sites(6), m(2, 6), points(6), label=" along axis 1"),
    case("CubicSpline", of("CubicSpline", bc_type="natural"), *SIX, label=" natural"),
    case("CubicSpline", of("CubicSpline", bc_type="clamped"), *SIX, label=" clamped"),
    case("CubicSpline", of("CubicSpline", bc_type=((1, 0.5), (2, -0.3))), *SIX, label=" with given ends"),
    case("CubicSpline", lambda x, y, at: interpolate.CubicSpline(x, y)(at, 1), *SIX, label="'s derivative"),
    case("CubicSpline", lambda x, y: interpolate.CubicSpline(x, y).integrate(0.5, 3.3), *SIX[:2], label="'s integral"),
    case("PchipInterpolator", of("PchipInterpolator"), *SIX),
    case(
        "PchipInterpolator",
        of("PchipInterpolator"),
        sites(6),
        lambda rng: np.cumsum(rng.uniform(0.5, 2, 6)),
        points(6),
        label=" of growing values",
    ),
    case("Akima1DInterpolator", of("Akima1DInterpolator"), sites(7), m(7), points(6)),
    case(
        "CubicHermiteSpline",
        lambda x, y, s, at: interpolate.CubicHermiteSpline(x, y, s)(at),
        sites(6),
        m(6),
        m(6),
        points(6),
    ),
    case("PPoly", lambda c, at: interpolate.PPoly(c, EVEN)(at), m(4, 5), points(6)),
    case(
        "BSpline",
        lambda c, at: interpolate.BSpline(KNOTS, c, 3)(at),
        m(6, 2),
        lambda rng: rng.uniform(0.1, 3.9, (2, 3)),
        order=2,
    ),
    case(
        "BSpline",
        lambda c, at: interpolate.BSpline(KNOTS, c, 3)(at),
        m(6),
        lambda rng: rng.uniform(0.1, 3.9, 3),
        label=" of numbers",
    ),
    case("BSpline", lambda c: interpolate.BSpline(KNOTS, c, 3).integrate(0.5, 3.0), m(6), label="'s integral"),
    case("make_interp_spline", lambda y, at: interpolate.make_interp_spline(EVEN, y)(at), m(6, 2), points(6)),
    case(
        "make_interp_spline",
        lambda y, at: interpolate.make_interp_spline(EVEN, y, bc_type="natural")(at),
        m(6),
        points(6),
        label=" natural",
    ),
    *[
        case("interp1d", of("interp1d", kind=kind), *SIX, label=f" {kind}")
        for kind in ("linear", "nearest", "previous", "next")
    ],
    case(
        "interp1d",
        of("interp1d", fill_value="extrapolate"),
        sites(6),
        m(2, 6),
        lambda rng: rng.uniform(5.3, 6, 3),
        label=" outside",
    ),
    *[
        case("interp1d", by_values("interp1d", EVEN, kind=kind), m(2, 6), points(6), label=f" {kind}")
        for kind in ("quadratic", "cubic")
    ],
    case("RegularGridInterpolator", lambda v, at: interpolate.RegularGridInterpolator(GRID, v)(at), m(3, 4, 2), inside),
    case(
        "RegularGridInterpolator",
        lambda v: interpolate.RegularGridInterpolator(GRID, v, method="nearest")(np.array([[0.7, 1.2]])),
        m(3, 4),
        label=" nearest",
    ),
    case("interpn", lambda v, at: interpolate.interpn(GRID, v, at), m(3, 4), inside),
    case("BarycentricInterpolator", of("BarycentricInterpolator"), sites(5), m(5, 2), points(5)),
    case("KroghInterpolator", of("KroghInterpolator"), sites(5), m(5), points(5)),
    case("RBFInterpolator", lambda s, d, at: interpolate.RBFInterpolator(s, d)(at), m(7, 2), m(7), m(3, 2), rtol=1e-4),
    case(
        "RBFInterpolator",
        lambda d, at: interpolate.RBFInterpolator(EVEN[:, None], d, kernel="gaussian", epsilon=0.7)(at),
        m(6, 2),
        m(3, 1),
        label=" gaussian",
        rtol=1e-4,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)


def test_knots_are_refused():
    with pytest.raises(TypeError, match="knots"):
        interpolate.BSpline(ag.tensor(KNOTS, requires_grad=True), np.ones(6), 3)(0.5)
