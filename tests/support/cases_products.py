"""Cases for the products: every combination of ranks, every mode and every form of subscripts."""

from __future__ import annotations

import string

import numpy as np
from cases import Case, normal, shape, shapes_that_broadcast


def _sizes(rng, n, low=1):
    return [int(k) for k in rng.integers(low, 5, n)]


def matmul(rng):
    """Any two ranks from 1 to 4, batches that broadcast, now and then an empty axis."""
    m, k, n = _sizes(rng, 3, low=0 if rng.random() < 0.2 else 1)
    batches = shapes_that_broadcast(rng, 2)
    ends = [(k,), (*batches[0][-2:], m, k)], [(k,), (k, n), (*batches[1][-2:], k, n)]
    a, b = (choices[rng.integers(len(choices))] for choices in ends)
    return (normal(rng, a), normal(rng, b)), {}


def dot(rng):
    k = int(rng.integers(1, 4))
    a = [(), (k,), (2, k), (2, 3, k)][rng.integers(4)]
    b = [(), (k,), (k, 2), (3, k, 2), (2, 1, k, 2)][rng.integers(5)]
    return (normal(rng, a), normal(rng, b)), {}


def inner(rng):
    k = int(rng.integers(1, 4))
    a, b = ([(), (k,), (2, k), (3, 1, k)][i] for i in rng.integers(4, size=2))
    return (normal(rng, a), normal(rng, b)), {}


def vdot(rng):
    return (
        (normal(rng, (2, 3)), normal(rng, (2, 3))) if rng.random() < 0.5 else (normal(rng, (4,)), normal(rng, (4,)))
    ), {}


def outer(rng):
    return (normal(rng, shape(rng, high=2)), normal(rng, shape(rng, high=2))), {}


def tensordot(rng):
    a, b, c, d = _sizes(rng, 4)
    forms = [
        ((a, b), (b, c), 1),
        ((a, b, c), (b, c, d), 2),
        ((a, b), (c, d), 0),
        ((a, b, c), (c, d, a), ([0, 2], [2, 0])),
        ((a, b, c), (d, b), (1, 1)),
        ((a, b, c), (d, b), (-2, -1)),
        ((a, b, c), (c, d), [[2], [0]]),
    ]
    x, y, axes = forms[rng.integers(len(forms))]
    return (normal(rng, x), normal(rng, y), axes), {}


def kron(rng):
    return (normal(rng, shape(rng)), normal(rng, shape(rng, high=2))), {}


def cross(rng):
    if rng.random() < 0.5:
        a, b = shapes_that_broadcast(rng, 2)
        return (normal(rng, (*a, 3)), normal(rng, (*b, 3))), {}
    if rng.random() < 0.5:
        return (normal(rng, (3, 2)), normal(rng, (2, 3))), {"axisa": 0, "axisb": 1, "axisc": 0}
    return (normal(rng, (2, 3, 4)), normal(rng, (2, 3, 4))), {"axis": int(rng.choice([1, -2]))}


def trace(rng):
    x = normal(rng, (*_sizes(rng, 2), *shape(rng, high=1)))
    keywords = {"offset": int(rng.integers(-1, 2))} if rng.random() < 0.5 else {}
    return (x,), keywords | ({"axis1": -1, "axis2": 0} if rng.random() < 0.5 else {})


def signals(rng):
    n, m = _sizes(rng, 2)
    mode = {"mode": str(rng.choice(["full", "same", "valid"]))} if rng.random() < 0.8 else {}
    return (normal(rng, (n,)), normal(rng, (m,))), mode


def vecdot(rng):
    a, b = shapes_that_broadcast(rng, 2)
    x, y = normal(rng, (*a, 3)), normal(rng, (*b, 3))
    if rng.random() < 0.3 and x.ndim == y.ndim:
        return (np.moveaxis(x, -1, 0), np.moveaxis(y, -1, 0)), {"axis": 0}
    return (x, y), {"keepdims": True} if rng.random() < 0.3 else {}


def matvec(rng):
    a, b = shapes_that_broadcast(rng, 2)
    return (normal(rng, (*a, 2, 3)), normal(rng, (*b, 3))), {}


def vecmat(rng):
    a, b = shapes_that_broadcast(rng, 2)
    return (normal(rng, (*a, 2)), normal(rng, (*b, 2, 3))), {}


# einsum: subscripts by hand, and drawn.

_FORMS = [
    "ij,jk->ik", "ij,jk", "ji", "ij->", "ij", "ii", "ii->i", "iij->j", "ijj->i", "ij->j", "i,j->ij", "i,i", "ij,ij->ij",
    "bij,bjk->bik", "ij,jk,kl->il", "ij,jk,ki->", "ijk,ik->j", "a,ab,b->", "iji->j", "ii,i->i", "ii,jj->ij", "ij,kk->i",
    "...ij,...jk->...ik", "...i->...", "i...->...i", "...,...", "...ii->...", "...ii->...i", "i...,i", "ij...,jk...->ik...",
]  # fmt: skip


def einsum(rng):
    form = str(rng.choice(_FORMS))
    size = dict(zip(string.ascii_letters, _sizes(rng, 52), strict=True))
    hidden = _sizes(rng, 2)
    operands = []
    for term in form.partition("->")[0].split(","):
        shape = [k for c in term.replace("...", ".") for k in (hidden if c == "." else [size[c]])]
        if "..." in term and rng.random() < 0.3:
            shape[term.index(".")] = 1
        operands.append(normal(rng, tuple(shape)))
    return (form, *operands), {"optimize": True} if rng.random() < 0.3 else {}


def einsum_broadcast(rng):
    """An axis of size 1 under a letter that is larger elsewhere."""
    form, shapes = [
        ("ij,jk->ik", ((2, 1), (3, 2))),
        ("ij,jk->ik", ((2, 3), (1, 2))),
        ("i,i->", ((3,), (1,))),
        ("i,i->i", ((1,), (3,))),
        ("i,ii->i", ((1,), (3, 3))),
        ("ij,i,j->", ((1, 4), (3,), (1,))),
    ][rng.integers(6)]
    return (form, *(normal(rng, s) for s in shapes)), {}


def einsum_lists(rng):
    """Operands and lists of axis numbers in turns."""
    a, b, c = _sizes(rng, 3)
    x, y = normal(rng, (a, b)), normal(rng, (b, c))
    forms = [(x, [0, 1], y, [1, 2], [0, 2]), (x, [0, 1], y, [1, 2]), (x, [Ellipsis, 0], y, [0, 1], [Ellipsis, 1])]
    return forms[rng.integers(3)], {}


def _einsum_case(name, sample, wrt):
    return Case(name, np.einsum, sample, wrt=wrt, complex=True, spellings=False)


def _one_of(draw, count):
    """Samples of `draw` with `count` operands."""

    def sample(rng):
        while True:
            args, keywords = draw(rng)
            if len(args) == count + 1:
                return args, keywords

    return sample


CASES = [
    Case("matmul", np.matmul, matmul, (0, 1), complex=True),
    Case("dot", np.dot, dot, (0, 1), complex=True),
    Case("inner", np.inner, inner, (0, 1), complex=True),
    Case("vdot", np.vdot, vdot, (0, 1), complex=True),
    Case("outer", np.outer, outer, (0, 1), complex=True),
    Case("tensordot", np.tensordot, tensordot, (0, 1), complex=True),
    Case("kron", np.kron, kron, (0, 1), complex=True),
    Case("cross", np.cross, cross, (0, 1), complex=True),
    Case("trace", np.trace, trace, complex=True),
    Case("convolve", np.convolve, signals, (0, 1), complex=True),
    Case("correlate", np.correlate, signals, (0, 1), complex=True),
    Case("vecdot", np.vecdot, vecdot, (0, 1), complex=True),
    *(
        Case(name, getattr(np, name), draw, (0, 1), complex=True)
        for name, draw in (("matvec", matvec), ("vecmat", vecmat))
        if hasattr(np, name)
    ),
    _einsum_case("einsum of one", _one_of(einsum, 1), (1,)),
    _einsum_case("einsum of two", _one_of(einsum, 2), (1, 2)),
    _einsum_case("einsum of three", _one_of(einsum, 3), (1, 2, 3)),
    _einsum_case("einsum, size 1 of two", _one_of(einsum_broadcast, 2), (1, 2)),
    _einsum_case("einsum, size 1 of three", _one_of(einsum_broadcast, 3), (1, 2, 3)),
    _einsum_case("einsum with lists", einsum_lists, (0, 2)),
]
