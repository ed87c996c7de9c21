"""Cases for putting together, taking apart, and differences of neighbours."""

from __future__ import annotations

import numpy as np
from cases import Case, away_from_zero, normal, one_axis, shape, uniform


def several(rng, count=None, *, low=0, same=True):
    """Arrays of one shape; with same=False they differ along the axis that is returned too."""
    size = shape(rng, low=low)
    count = count or int(rng.integers(1, 4))
    if same:
        return [normal(rng, size) for _ in range(count)]
    axis = one_axis(rng, len(size))
    i = axis % len(size)
    return [normal(rng, (*size[:i], int(rng.integers(0, 4)), *size[i + 1 :])) for _ in range(count)], axis


def concatenate(rng):
    arrays, axis = several(rng, low=1, same=False)
    return (arrays, *((axis,) if rng.random() < 0.8 else (None,))), {}


def stack(rng):
    arrays = several(rng)
    return (arrays,), {"axis": one_axis(rng, arrays[0].ndim + 1)} if rng.random() < 0.7 else {}


def many(low=0):
    return lambda rng: ((several(rng, low=low),), {})


def column_stack(rng):
    return ([normal(rng, (3,)), normal(rng, (3, 2))],), {}


def block(rng):
    a, b, c = normal(rng, (2, 2)), normal(rng, (2, 1)), normal(rng, (3,))
    return ([[[a, b], [c]], [a, b], [normal(rng, ()), c, c], [[[[a]]], [[[a]]]]][rng.integers(4)],), {}


def append(rng):
    axis = [None, 0, -2][rng.integers(3)]
    return (normal(rng, (2, 3)), normal(rng, (1, 3)), *(() if axis is None else (axis,))), {}


def split(rng):
    x = normal(rng, (4, 6))
    axis = one_axis(rng, 2)
    return (x, [2, [1, 3], [0, 2, 2], [3, 1], [-1], 1][rng.integers(6)], axis), {}


def array_split(rng):
    return (normal(rng, (5, 3)), [3, [1, 9], 7][rng.integers(3)]), {"axis": one_axis(rng, 2)}


def parts(form, sections=2):
    return lambda rng: ((normal(rng, form), sections), {})


def meshgrid(rng):
    vectors = [normal(rng, (int(n),)) for n in rng.integers(1, 4, int(rng.integers(1, 4)))]
    keywords = {"indexing": str(rng.choice(["xy", "ij"])), "sparse": bool(rng.random() < 0.3)}
    return tuple(vectors), keywords if rng.random() < 0.8 else {}


def of_length(sample, count):
    def drawn(rng):
        while True:
            args, keywords = sample(rng)
            if len(args) == count:
                return args, keywords

    return drawn


def diff(rng):
    x = normal(rng, shape(rng, low=1, empty=False))
    return (x,), {"n": int(rng.integers(0, 4)), "axis": one_axis(rng, x.ndim)} if rng.random() < 0.8 else {}


def diff_ends(rng):
    return (normal(rng, (3, 4)),), {
        "prepend": normal(rng, [(), (3, 2)][rng.integers(2)]), "append": normal(rng, [(), (3, 1)][rng.integers(2)])
    }  # fmt: skip


def ediff1d(rng):
    return (normal(rng, (2, 3)), normal(rng, (2,)), normal(rng, [(), (1,)][rng.integers(2)])), {}


def _coordinates(rng, n):
    return np.cumsum(uniform(rng, (n,), 0.5, 1.5))


def gradient(rng):
    x = normal(rng, (4, 5))
    edge = {"edge_order": int(rng.integers(1, 3))}
    return [
        ((x,), edge),
        ((x,), edge | {"axis": -1}),
        ((x,), edge | {"axis": (1, 0)}),
        ((x, 0.5), edge),
        ((x, 0.5, 2.0), edge),
        ((x, _coordinates(rng, 4), 2.0), edge),
    ][rng.integers(6)]


def gradient_short(rng):
    return (normal(rng, (2,)),), {}


def gradient_spacing(rng):
    """The spacing differentiated: a number, or coordinates."""
    h = np.asarray(rng.uniform(0.5, 2.0)) if rng.random() < 0.5 else _coordinates(rng, 4)
    return (normal(rng, (4, 3)), h), {"axis": 0, "edge_order": int(rng.integers(1, 3))}


def vander(rng):
    return (normal(rng, (3,)),), [{}, {"N": 4}, {"N": 2, "increasing": True}, {"N": 0}, {"N": 1}][rng.integers(5)]


def linspace(rng):
    a, b = normal(rng, [(), (3,), (2, 1)][rng.integers(3)]), normal(rng, [(), (3,)][rng.integers(2)])
    keywords = {"num": int(rng.integers(0, 6)), "endpoint": bool(rng.random() < 0.7)}
    if rng.random() < 0.3:
        keywords["axis"] = -1
    return (a, b), keywords if rng.random() < 0.9 else {}


def linspace_step(rng):
    return (normal(rng, (2,)), normal(rng, ())), {"num": int(rng.integers(2, 6)), "retstep": True}


def logspace(rng):
    a, b = uniform(rng, (2,), -1, 1), uniform(rng, (), -1, 1)
    return (a, b), {"num": 4, "endpoint": bool(rng.random() < 0.7)}


def geomspace(rng):
    sign = rng.choice([-1.0, 1.0])
    return (sign * uniform(rng, (2,), 0.5, 2), sign * uniform(rng, (), 0.5, 2)), {
        "num": int(rng.integers(2, 5)), "endpoint": bool(rng.random() < 0.7)
    }  # fmt: skip


def polyval(rng):
    return (normal(rng, (int(rng.integers(1, 5)),)), normal(rng, shape(rng, high=2))), {}


def two_polynomials(rng):
    return (away_from_zero(rng, (int(rng.integers(1, 4)),)), away_from_zero(rng, (int(rng.integers(1, 4)),))), {}


CASES = [
    Case("concatenate", np.concatenate, concatenate, complex=True),
    Case("stack", np.stack, stack, complex=True),
    Case("vstack", np.vstack, many()),
    Case("hstack", np.hstack, many()),
    Case("dstack", np.dstack, many()),
    Case("column_stack", np.column_stack, column_stack),
    Case("block", np.block, block),
    Case("append", np.append, append, (0, 1), complex=True),
    Case("array_split", np.array_split, array_split, complex=True),
    Case("split", np.split, split, complex=True),
    Case("hsplit", np.hsplit, parts((3, 4))),
    Case("hsplit of a vector", np.hsplit, parts((4,))),
    Case("vsplit", np.vsplit, parts((4, 3), [1, 3])),
    Case("dsplit", np.dsplit, parts((2, 1, 4))),
    Case("unstack", np.unstack, lambda rng: ((normal(rng, (2, 3, 4)),), {"axis": one_axis(rng, 3)})),
    Case("meshgrid of one", np.meshgrid, of_length(meshgrid, 1), (0,), spellings=False),
    Case("meshgrid of two", np.meshgrid, of_length(meshgrid, 2), (0, 1), spellings=False),
    Case("meshgrid of three", np.meshgrid, of_length(meshgrid, 3), (0, 1, 2), spellings=False),
    Case("diff", np.diff, diff, complex=True),
    Case("diff with ends", np.diff, diff_ends, (0, "prepend", "append")),
    Case("ediff1d", np.ediff1d, lambda rng: ((normal(rng, (2, 3)),), {}), complex=True),
    Case("ediff1d with ends", np.ediff1d, ediff1d, (0, 1, 2)),
    Case("gradient", np.gradient, gradient, complex=True, spellings=False),
    Case("gradient of two entries", np.gradient, gradient_short, spellings=False),
    Case("gradient, spacing", np.gradient, gradient_spacing, (0, 1), spellings=False),
    Case("vander", np.vander, vander, complex=True),
    Case("linspace", np.linspace, linspace, (0, 1), complex=True),
    Case("linspace with its step", np.linspace, linspace_step, (0, 1)),
    Case("logspace", np.logspace, logspace, (0, 1)),
    Case("geomspace", np.geomspace, geomspace, (0, 1)),
    Case("polyval", np.polyval, polyval, (0, 1), complex=True),
    *(Case(f.__name__, f, two_polynomials, (0, 1)) for f in (np.polyadd, np.polysub, np.polymul)),
    Case("polyder", np.polyder, lambda rng: ((normal(rng, (4,)),), {"m": int(rng.integers(0, 4))})),
    Case("polyint", np.polyint, lambda rng: ((normal(rng, (3,)),), {"m": int(rng.integers(0, 3))})),
]
