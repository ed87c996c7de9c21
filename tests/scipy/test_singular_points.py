"""Derivatives at the ends of domains, at poles, at removable singularities and far out: right, infinite, or NaN; never wrong."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

from scipy.special import _ufuncs as sc

import allgrad as ag

inf, nan = np.inf, np.nan

# function, arguments, which argument, first and second derivative (limits, worked out by hand or by mpmath)
POINTS = [
    ("gammainc", (2.0, 0.0), 0, 0.0, 0.0),
    ("gammainc", (2.0, 0.0), 1, 0.0, 1.0),
    ("gammainc", (3.0, 0.0), 1, 0.0, 0.0),
    ("betainc", (2.0, 2.0, 0.0), 2, 0.0, 6.0),
    ("betainc", (2.0, 2.0, 1.0), 2, 0.0, -6.0),
    ("gammainc", (1.0, 0.0), 1, 1.0, -1.0),
    ("gammainc", (0.5, 0.0), 1, inf, -inf),
    ("betainc", (2.0, 3.0, 0.0), 0, 0.0, 0.0),
    ("betainc", (2.0, 3.0, 1.0), 1, 0.0, 0.0),
    ("xlogy", (0.0, 0.0), 0, -inf, 0.0),
    ("xlogy", (0.0, 0.0), 1, 0.0, 0.0),
    ("entr", (0.0,), 0, inf, -inf),
    ("kl_div", (0.0, 1.0), 1, 1.0, 0.0),
    ("jv", (0.0, 0.0), 1, 0.0, -0.5),
    ("jv", (1.0, 0.0), 1, 0.5, 0.0),
    ("i0e", (0.0,), 0, 0.0, 0.5),
    ("ellipk", (0.0,), 0, np.pi / 8, 9 * np.pi / 64),
    ("ellipk", (1.0,), 0, inf, inf),
    ("ellipe", (0.0,), 0, -np.pi / 8, -3 * np.pi / 64),
    ("elliprf", (0.0, 1.0, 2.0), 0, -inf, inf),
    ("elliprf", (1.0, 1.0, 1.0), 0, -1 / 6, 3 / 20),
    ("elliprc", (1.0, -1.0), 1, nan, nan),
    ("rgamma", (0.0,), 0, 1.0, 2 * np.euler_gamma),
    ("rgamma", (-2.0,), 0, 2.0, -3.6911373403938697),
    ("rgamma", (0.5,), 0, 1.1077919038728709, -0.6090034884161109),
    ("binom", (3.0, 5.0), 1, 0.05, -0.12833333333333333),
    ("binom", (5.0, 5.0), 1, -137 / 60, 3.3873540885257687),
    ("poch", (-2.0, 1.5), 0, nan, nan),
    ("exprel", (0.0,), 0, 0.5, 1 / 3),
    ("boxcox", (2.0, 0.0), 1, np.log(2) ** 2 / 2, np.log(2) ** 3 / 3),
    ("inv_boxcox", (0.5, 0.0), 1, -np.exp(0.5) / 8, np.exp(0.5) * (1 / 64 + 1 / 12)),
    ("spence", (1.0,), 0, -1.0, 0.5),
    ("voigt_profile", (1.0, 0.0, 1.0), 1, nan, nan),
    ("logit", (0.0,), 0, inf, -inf),
    ("eval_legendre", (0, 0.5), 1, 0.0, 0.0),
    ("eval_legendre", (3, 1.0), 1, 6.0, 15.0),
    ("agm", (1.0, 1.0), 0, 0.5, -0.125),
    # far out, where textbook formulas cancel
    ("erfcx", (1e8,), 0, -1e-16 / np.sqrt(np.pi), 2e-24 / np.sqrt(np.pi)),
    ("dawsn", (1e4,), 0, -5.000000075e-9, 1.00000003e-12),
    ("log_ndtr", (-1e3,), 0, 1000.0009999980001, -0.999999000006),
    ("log_expit", (-800.0,), 0, 1.0, 0.0),
    ("stdtr", (1e8, 1.0), 0, 1.20985e-17, None),
]


@pytest.mark.parametrize(("name", "args", "at", "first", "second"), POINTS, ids=lambda p: str(p).replace(" ", ""))
def test_the_derivatives_at(name, args, at, first, second):
    def along(x):
        return getattr(sc, name)(*args[:at], x, *args[at + 1 :])

    rtol = 0.01 if second is None else 1e-9
    np.testing.assert_allclose(ag.grad(along)(args[at]), first, rtol=rtol, atol=1e-14)
    np.testing.assert_allclose(ag.derivative(along)(args[at]), first, rtol=rtol, atol=1e-14)
    if second is not None:
        np.testing.assert_allclose(ag.grad(ag.grad(along))(args[at]), second, rtol=1e-9, atol=1e-14)


def test_a_zero_cotangent_hides_an_infinite_derivative():
    def masked(x):
        return np.sum(np.where(x > 0, sc.xlogy(x, x), 0.0))

    np.testing.assert_array_equal(ag.grad(masked)(np.array([0.0, 1.0])), [0.0, 1.0])
