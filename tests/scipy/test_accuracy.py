"""Derivatives that are computed numerically (by shape parameters and orders), against mpmath in 40 digits.

The bounds are what docs/scipy.md promises: relative to the derivative, or to the function where that is larger.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")
pytest.importorskip("mpmath", reason="mpmath is the reference here")

import mpmath as mp
import scipy.special as sc

import allgrad as ag

F = {
    "gammainc": lambda a, x: mp.gammainc(a, 0, x, regularized=True),
    "gammaincc": lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
    "betainc": lambda a, b, x: mp.betainc(a, b, 0, x, regularized=True),
    "betaincc": lambda a, b, x: mp.betainc(a, b, x, 1, regularized=True),
    "jv": mp.besselj,
    "yv": mp.bessely,
    "iv": mp.besseli,
    "kv": mp.besselk,
    "hyp1f1": mp.hyp1f1,
    "hyp2f1": mp.hyp2f1,
    "hyperu": mp.hyperu,
    "hyp0f1": mp.hyp0f1,
    "struve": mp.struveh,
    "_zeta": mp.zeta,
    "elliprf": mp.elliprf,
    "elliprd": mp.elliprd,
    "elliprj": mp.elliprj,
    "elliprg": mp.elliprg,
    "ellipkinc": mp.ellipf,
    "ellipeinc": mp.ellipe,
    "erfcx": lambda x: mp.exp(x * x) * mp.erfc(x),
    "log_ndtr": lambda x: mp.log(mp.ncdf(x)),
}

# function, arguments, which argument
POINTS = [
    *[("gammainc", (a, x), 0) for a in (0.05, 0.5, 3.0, 40.0, 900.0) for x in (0.3 * a, a, 1.4 * a)],
    ("gammainc", (2.0, 60.0), 0),
    ("gammaincc", (2.0, 60.0), 0),
    ("gammaincc", (50.0, 5.0), 0),
    *[
        ("betainc", (a, b, x), k)
        for a, b, x in ((0.3, 0.7, 0.2), (2.0, 3.0, 0.5), (60.0, 30.0, 0.7), (5.0, 0.2, 0.9))
        for k in (0, 1)
    ],
    ("betaincc", (2.0, 30.0, 0.6), 0),
    ("betaincc", (2.0, 30.0, 0.6), 1),
    *[(name, (v, x), 0) for name in ("jv", "yv", "iv", "kv") for v, x in ((0.0, 1.3), (0.5, 0.1), (2.7, 9.0))],
    ("hyp1f1", (1.2, 2.3, -1.5), 0),
    ("hyp1f1", (1.2, 2.3, 4.0), 1),
    *[("hyp2f1", (0.7, 1.4, 2.2, 0.6), k) for k in (0, 1, 2)],
    ("hyperu", (1.1, 0.6, 2.0), 0),
    ("hyperu", (1.1, 0.6, 2.0), 1),
    ("hyp0f1", (1.7, -3.0), 0),
    ("struve", (1.3, 2.0), 0),
    ("_zeta", (2.5, 1.3), 0),
    *[("elliprf", (1e-3, 2.0, 5.0), k) for k in range(3)],
    *[("elliprd", (0.5, 0.5, 0.5), k) for k in range(3)],
    *[("elliprj", (2.0, 3.0, 4.0, 5.0), k) for k in range(4)],
    *[("elliprg", (2.0, 3.0, 1e-2), k) for k in range(3)],
    ("ellipkinc", (4.0, 0.6), 1),
    ("ellipeinc", (4.0, 1e-9), 1),
    *[("erfcx", (x,), 0) for x in (-3.0, 0.5, 1.5, 40.0, 1e5)],
    *[("log_ndtr", (x,), 0) for x in (-40.0, -1.0, 3.0)],
]


@pytest.mark.parametrize(("name", "args", "at"), POINTS, ids=lambda p: str(p).replace(" ", ""))
def test_against_mpmath(name, args, at):
    function = getattr(sc._ufuncs, name)

    def along(x):
        return function(*args[:at], x, *args[at + 1 :])

    with mp.workdps(40):
        expected = [
            mp.diff(F[name], tuple(map(mp.mpf, args)), tuple(n if i == at else 0 for i in range(len(args))))
            for n in (1, 2)
        ]
    value = float(function(*args))
    first = float(ag.grad(along)(args[at]))
    second = float(ag.grad(ag.grad(along))(args[at]))
    scale = min(abs(value), abs(1 - value)) if "inc" in name and "ellip" not in name else abs(value)
    np.testing.assert_allclose(first, float(expected[0]), rtol=1e-10, atol=1e-10 * scale)
    np.testing.assert_allclose(second, float(expected[1]), rtol=2e-8, atol=2e-8 * scale)
