"""Cases for the functions that move, repeat and pad entries."""

from __future__ import annotations

import numpy as np
from cases import Case, normal, one_axis, separated, shape, some_axes


def array(low=0, high=3):
    return lambda rng: ((normal(rng, shape(rng, low=low, high=high)),), {})


def reshape(rng):
    x = normal(rng, (2, 3, 4))
    form = [(24,), (4, -1), (1, 6, 2, 2), -1, (2, 3, 4), 24][rng.integers(6)]
    return (x, form), {"order": str(rng.choice(["C", "F", "A"]))} if rng.random() < 0.5 else {}


def transpose(rng):
    x = normal(rng, shape(rng))
    axes = [int(i) - (x.ndim if rng.random() < 0.5 else 0) for i in rng.permutation(x.ndim)]
    return (x, *(() if rng.random() < 0.4 else (tuple(axes),))), {}


def broadcast_to(rng):
    target = shape(rng)
    source = tuple(1 if rng.random() < 0.4 else n for n in target[int(rng.integers(len(target) + 1)) :])
    return (normal(rng, source), target), {}


def flip(rng):
    x = normal(rng, shape(rng))
    return (x,), {"axis": some_axes(rng, x.ndim)}


def squeeze(rng):
    x = normal(rng, (1, 3, 1, 2))
    return (x,), [{}, {"axis": 0}, {"axis": (-2, 0)}, {"axis": -2}][rng.integers(4)]


def expand_dims(rng):
    return (normal(rng, (2, 3)), [0, -1, 1, (0, 2), (-1, 0), (1, 3, 4)][rng.integers(6)]), {}


def moveaxis(rng):
    return (
        normal(rng, (2, 3, 4)),
        *[(0, -1), (-1, 0), ((0, 1), (2, 0)), ([2], [1]), ((0, 1, 2), (-1, 0, 1))][rng.integers(5)],
    ), {}


def roll(rng):
    forms = [(1, None), (-2, 0), (5, -1), ((1, 2), (0, 1)), ((1, -1), (0, 0)), (1, (0, 1)), ((2, 1), 1), ((1, 3), None)]
    shift, axis = forms[rng.integers(len(forms))]
    return (normal(rng, (3, 4)), shift, *(() if axis is None else (axis,))), {}


def repeat(rng):
    forms = [(2, None), (0, 0), (3, -1), ([1, 0, 2], 0), (np.array([2, 1, 0, 1]), 1), ([2], 1), ([1] * 11 + [3], None)]
    repeats, axis = forms[rng.integers(len(forms))]
    return (normal(rng, (3, 4)), repeats, *(() if axis is None else (axis,))), {}


def tile(rng):
    return (normal(rng, shape(rng, high=2)), [2, (1, 2), (2, 1, 3), (0,), (2, 2)][rng.integers(5)]), {}


def resize(rng):
    return (normal(rng, (2, 3)), [(2, 2), 7, (3, 5), (0,), (13,)][rng.integers(5)]), {}


def rot90(rng):
    return (normal(rng, (2, 3, 4)),), {
        "k": int(rng.integers(-5, 6)),
        "axes": [(0, 1), (1, 0), (-1, 0), (1, 2)][rng.integers(4)],
    }


def full_like(rng):
    return (normal(rng, (2, 3)), normal(rng, [(), (3,), (2, 1)][rng.integers(3)])), {
        "shape": (4, 2, 3)
    } if rng.random() < 0.3 else {}


WIDTHS = [2, (1, 3), [(1, 2), (0, 5)], ((7, 0), (2, 9)), [[3], [1]], 0]


def pad(mode, **options):
    def sample(rng):
        x = separated(rng, (3, 4))
        chosen = {k: draw(rng) for k, draw in options.items() if rng.random() < 0.7}
        return (x, WIDTHS[rng.integers(len(WIDTHS))]), {"mode": mode, **chosen}

    return sample


def _ends(rng):
    return [1.5, (0.5, -2.0), ((1.0, 2.0), (3.0, 4.0))][rng.integers(3)]


def pad_constants(key, form):
    """Padding values that are differentiated themselves: one, a pair, a pair for each axis."""

    def sample(rng):
        mode = {"constant_values": "constant", "end_values": "linear_ramp"}[key]
        return (normal(rng, (3, 4)), WIDTHS[rng.integers(len(WIDTHS))]), {"mode": mode, key: normal(rng, form)}

    return sample


def _stat_length(rng):
    return [None, 2, (1, 3), ((2, 9), (1, 1))][rng.integers(4)]


def _reflect_type(rng):
    return str(rng.choice(["even", "odd"]))


CASES = [
    Case("reshape", np.reshape, reshape, complex=True),
    Case(
        "ravel",
        np.ravel,
        lambda rng: ((normal(rng, (2, 3)),), {"order": str(rng.choice(["C", "F", "A", "K"]))}),
        complex=True,
    ),
    Case("transpose", np.transpose, transpose, complex=True),
    Case("permute_dims", np.permute_dims, transpose),
    Case("matrix_transpose", np.matrix_transpose, array(2), complex=True),
    Case("broadcast_to", np.broadcast_to, broadcast_to, complex=True),
    Case("broadcast_arrays", np.broadcast_arrays, lambda rng: ((normal(rng, (2, 1)), normal(rng, (3,))), {}), (0, 1)),
    Case("flip", np.flip, flip, complex=True),
    Case("fliplr", np.fliplr, array(2)),
    Case("flipud", np.flipud, array(1)),
    Case("rot90", np.rot90, rot90, complex=True),
    Case("astype", lambda x: np.astype(x, x.dtype), array(), covers=(np.astype,), complex=True),
    Case(
        "astype to float32",
        lambda x: np.astype(x, np.float32).astype(np.float64),
        array(),
        rtol=5e-2,
        order=1,
        covers=(np.astype,),
    ),
    Case("astype to complex", lambda x: np.astype(x, np.complex128), array(), float32=False, covers=(np.astype,)),
    Case("copy", np.copy, array(), complex=True),
    Case("squeeze", np.squeeze, squeeze, complex=True),
    Case("expand_dims", np.expand_dims, expand_dims, complex=True),
    Case("swapaxes", np.swapaxes, lambda rng: ((normal(rng, (2, 3, 4)), one_axis(rng, 3), one_axis(rng, 3)), {})),
    Case("moveaxis", np.moveaxis, moveaxis),
    Case(
        "rollaxis", np.rollaxis, lambda rng: ((normal(rng, (2, 3, 4)), one_axis(rng, 3), int(rng.integers(-3, 4))), {})
    ),
    Case("atleast_1d", np.atleast_1d, array(), spellings=False),
    Case("atleast_2d", np.atleast_2d, array(), spellings=False),
    Case("atleast_3d", np.atleast_3d, array(), spellings=False),
    Case(
        "atleast_2d of two",
        np.atleast_2d,
        lambda rng: ((normal(rng, (3,)), normal(rng, ())), {}),
        (0, 1),
        spellings=False,
    ),
    Case("roll", np.roll, roll, complex=True),
    Case("repeat", np.repeat, repeat, complex=True),
    Case("tile", np.tile, tile, complex=True),
    Case("resize", np.resize, resize),
    Case("full_like", np.full_like, full_like, (0, 1)),
    Case("pad, constant", np.pad, pad("constant", constant_values=_ends), complex=True),
    Case("pad, edge", np.pad, pad("edge"), complex=True),
    Case("pad, linear_ramp", np.pad, pad("linear_ramp", end_values=_ends)),
    Case("pad, maximum", np.pad, pad("maximum", stat_length=_stat_length), float32=False),
    Case("pad, minimum", np.pad, pad("minimum", stat_length=_stat_length), float32=False),
    Case("pad, mean", np.pad, pad("mean", stat_length=_stat_length)),
    Case("pad, median", np.pad, pad("median", stat_length=_stat_length), float32=False),
    Case("pad, reflect", np.pad, pad("reflect", reflect_type=_reflect_type), complex=True),
    Case("pad, symmetric", np.pad, pad("symmetric", reflect_type=_reflect_type), complex=True),
    Case("pad, wrap", np.pad, pad("wrap"), complex=True),
    *(
        Case(f"pad, {key} of shape {form}", np.pad, pad_constants(key, form), (0, key), spellings=False)
        for key in ("constant_values", "end_values")
        for form in ((), (2,), (1, 2), (2, 1), (2, 2))
    ),
]
