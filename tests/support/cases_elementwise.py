"""Cases of the elementwise functions: ufuncs, powers, complex numbers, special functions, choices between entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cases import Case, away_from_zero, normal, separated, shape, shapes_that_broadcast, uniform

import allgrad as ag

if TYPE_CHECKING:
    from collections.abc import Callable

Rng = np.random.Generator


def one(low: float, high: float) -> Callable[[Rng], Any]:
    return lambda rng: ((uniform(rng, shape(rng), low, high),), {})


def nonzero(rng: Rng) -> Any:
    return (away_from_zero(rng, shape(rng)),), {}


def any_number(rng: Rng) -> Any:
    return (normal(rng, shape(rng)),), {}


def two(draw: Callable[..., Any], *limits: float) -> Callable[[Rng], Any]:
    return lambda rng: (tuple(draw(rng, s, *limits) for s in shapes_that_broadcast(rng, 2)), {})


def two_apart(rng: Rng) -> Any:
    """Two arrays of which no entries are close to each other, however they are broadcast."""
    a, b = shapes_that_broadcast(rng, 2)
    both = separated(rng, (int(np.prod(a)) + int(np.prod(b)),))
    return (both[: int(np.prod(a))].reshape(a), both[int(np.prod(a)) :].reshape(b)), {}


def masked(draw: Callable[..., Any], arity: int) -> Callable[[Rng], Any]:
    """Arguments with a `where=` mask of their own shape; entries outside it are compared as 0."""

    def sample(rng: Rng) -> Any:
        shapes = shapes_that_broadcast(rng, arity + 1, empty=False)
        full = np.broadcast_shapes(*shapes)
        return tuple(draw(rng, s) for s in shapes[:arity]), {"mask": rng.random(full) < 0.6}

    return sample


def with_mask(ufunc: np.ufunc) -> Callable[..., Any]:
    """The ufunc with where=, which leaves the entries outside undefined in NumPy; here they start from 0."""

    def call(*args: Any, mask: Any) -> Any:
        if any(isinstance(a, ag.Tensor) for a in args):
            return ufunc(*args, where=mask)
        full = np.broadcast_shapes(mask.shape, *map(np.shape, args))
        return ufunc(*args, where=mask, out=np.zeros(full, np.result_type(*args)))

    return call


UNARY: list[tuple[np.ufunc, Any, bool]] = [
    (np.negative, any_number, True),
    (np.positive, any_number, True),
    (np.reciprocal, nonzero, True),
    (np.square, any_number, True),
    (np.exp, any_number, True),
    (np.exp2, any_number, True),
    (np.expm1, any_number, True),
    (np.log, one(0.2, 3), True),
    (np.log2, one(0.2, 3), True),
    (np.log10, one(0.2, 3), True),
    (np.log1p, one(-0.7, 3), True),
    (np.sqrt, one(0.2, 3), True),
    (np.cbrt, nonzero, False),
    (np.sin, any_number, True),
    (np.cos, any_number, True),
    (np.tan, one(-1, 1), True),
    (np.sinh, any_number, True),
    (np.cosh, any_number, True),
    (np.tanh, any_number, True),
    (np.arcsin, one(-0.8, 0.8), True),
    (np.arccos, one(-0.8, 0.8), True),
    (np.arctan, any_number, True),
    (np.arcsinh, any_number, True),
    (np.arccosh, one(1.3, 4), True),
    (np.arctanh, one(-0.7, 0.7), True),
    (np.deg2rad, any_number, False),
    (np.rad2deg, any_number, False),
    (np.radians, any_number, False),
    (np.degrees, any_number, False),
    (np.fabs, nonzero, False),
    (np.absolute, nonzero, True),
    (np.conjugate, any_number, True),
    (np.frexp, one(1.1, 1.9), False),
    (np.modf, one(0.1, 0.9), False),
]

BINARY: list[tuple[np.ufunc, Any, bool]] = [
    (np.add, two(normal), True),
    (np.subtract, two(normal), True),
    (np.multiply, two(normal), True),
    (np.divide, two(away_from_zero), True),
    (np.logaddexp, two(normal), False),
    (np.logaddexp2, two(normal), False),
    (np.arctan2, two(away_from_zero), False),
    (np.hypot, two(away_from_zero), False),
    (np.copysign, two(away_from_zero), False),
    (np.maximum, two_apart, False),
    (np.minimum, two_apart, False),
    (np.fmax, two_apart, False),
    (np.fmin, two_apart, False),
    (np.power, two(uniform, 0.3, 2), True),
    (np.float_power, two(uniform, 0.3, 2), True),
    (np.heaviside, two(away_from_zero), False),
]


def remainders(rng: Rng) -> Any:
    """x = (k + 0.2 ... 0.8) y: away from the jumps."""
    a, b = shapes_that_broadcast(rng, 2)
    full = np.broadcast_shapes(a, b)
    y = away_from_zero(rng, b)
    return (np.asarray(y * (rng.integers(-3, 3, full) + rng.uniform(0.2, 0.8, full))), y), {}


def powers(rng: Rng) -> Any:
    n = rng.choice(np.array([-3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 9, 0.5, 1.5, -0.5, 2.0], dtype=object))
    return (uniform(rng, shape(rng), 0.3, 2.0), n), {}


def whole_powers_of_negatives(rng: Rng) -> Any:
    return (away_from_zero(rng, shape(rng)), int(rng.integers(-3, 10))), {}


def choices(rng: Rng) -> Any:
    c, x, y = shapes_that_broadcast(rng, 3)
    return (rng.random(c) < 0.5, normal(rng, x), normal(rng, y)), {}


def clipped(rng: Rng) -> Any:
    x, low, high = shapes_that_broadcast(rng, 3)
    values = separated(rng, (int(np.prod(x)),)).reshape(x)
    return (values, uniform(rng, low, -0.9, -0.5) + 1e-2 / 3, uniform(rng, high, 0.5, 0.9) + 1e-2 / 3), {}


def clipped_by_keyword(rng: Rng) -> Any:
    which = rng.choice(["min", "max"])
    return (separated(rng, shape(rng)),), {str(which): 0.0}


def selected(rng: Rng) -> Any:
    shapes = shapes_that_broadcast(rng, 5)
    full = np.broadcast_shapes(*shapes)
    conditions = [rng.random(full) < 0.4 for _ in range(2)]
    return (conditions, [normal(rng, shapes[0]), normal(rng, shapes[1])], normal(rng, shapes[2])), {}


def pieces(rng: Rng) -> Any:
    x = away_from_zero(rng, shape(rng, low=1))
    return (x, [x < -0.5, x > 0.5], [lambda v: v * v, lambda v: np.sin(v), lambda v: 3 * v][: rng.integers(2, 4)]), {}


def with_nans(rng: Rng) -> Any:
    x = normal(rng, shape(rng))
    x = np.where(rng.random(x.shape) < 0.2, rng.choice([np.nan, np.inf, -np.inf], x.shape), x)
    return (x,), {"nan": 1.0, "posinf": 2.0, "neginf": -2.0}


def interpolated(rng: Rng) -> Any:
    knots = np.sort(separated(rng, (int(rng.integers(2, 6)),)))
    x = np.setdiff1d(np.round(uniform(rng, (4,), -2.5, 2.5), 2), np.round(knots, 2)) + 0.003
    x = x[np.min(np.abs(x[:, None] - knots), axis=1) > 2e-3]
    ends = {"left": 1.5, "right": -0.5} if rng.random() < 0.5 else {}
    return (x, knots, normal(rng, knots.shape)), ends


def interpolated_in_a_period(rng: Rng) -> Any:
    (x, knots, values), _ = interpolated(rng)
    return (x * 1.7, knots, values), {"period": 5.0}


def unwrapped(rng: Rng) -> Any:
    return (np.cumsum(rng.choice([0.3, 0.5, 4.0, -4.0], (2, 5)), axis=1),), {"axis": int(rng.integers(-2, 2))}


def outer(rng: Rng) -> Any:
    return (away_from_zero(rng, shape(rng, high=2)), away_from_zero(rng, shape(rng, high=2))), {}


CASES = [
    *(Case(f.__name__, f, sample, complex=c, rtol=1e-5) for f, sample, c in UNARY),
    *(Case(f.__name__, f, sample, wrt=(0, 1), complex=c, rtol=1e-5) for f, sample, c in BINARY),
    Case("remainder", np.remainder, remainders, wrt=(0, 1)),
    Case("fmod", np.fmod, remainders, wrt=(0, 1)),
    Case("divmod", np.divmod, remainders, wrt=(0, 1)),
    Case("nextafter", np.nextafter, two(normal), wrt=(0, 1)),
    Case("ldexp", np.ldexp, lambda rng: ((normal(rng, shape(rng)), int(rng.integers(-3, 4))), {})),
    Case("power-scalar", np.power, powers, rtol=1e-5),
    Case("power-whole", np.power, whole_powers_of_negatives, rtol=1e-5),
    Case(
        "power-whole-complex", np.power, lambda rng: ((away_from_zero(rng, shape(rng)), 3), {}), complex=True, rtol=1e-5
    ),
    Case("sign-complex", np.sign, nonzero, complex=True),
    Case("real", np.real, any_number, complex=True),
    Case("imag", np.imag, any_number, complex=True),
    Case("angle", np.angle, nonzero, complex=True),
    Case("angle-degrees", np.angle, lambda rng: ((nonzero(rng)[0][0],), {"deg": True}), complex=True),
    Case("real_if_close", np.real_if_close, any_number, complex=True),
    Case("sinc", np.sinc, any_number, complex=True, rtol=1e-5),
    Case("i0", np.i0, any_number, rtol=1e-5),
    Case("unwrap", np.unwrap, unwrapped),
    Case("interp", np.interp, interpolated, wrt=(0, 1, 2), rtol=1e-5, rtol32=1e-2),
    Case("interp-period", np.interp, interpolated_in_a_period, wrt=(0, 2), rtol=1e-5, rtol32=2e-2),
    Case("where", np.where, choices, wrt=(1, 2), complex=True),
    Case("select", np.select, selected, wrt=(1, 2)),
    Case("piecewise", np.piecewise, pieces, rtol=1e-5),
    Case("clip", np.clip, clipped, wrt=(0, 1, 2)),
    Case("clip-one-bound", np.clip, clipped_by_keyword),
    Case("nan_to_num", np.nan_to_num, with_nans),
    Case("nan_to_num-complex", np.nan_to_num, any_number, complex=True),
    Case("add-where", with_mask(np.add), masked(normal, 2), wrt=(0, 1), spellings=False, covers=(np.add,)),
    Case(
        "log-where", with_mask(np.log), masked(lambda r, s: uniform(r, s, 0.2, 2), 1), spellings=False, covers=(np.log,)
    ),
    Case("add-outer", np.add.outer, outer, wrt=(0, 1), complex=True, spellings=False),
    Case("divide-outer", np.divide.outer, outer, wrt=(0, 1), complex=True, spellings=False, rtol=1e-5),
]
