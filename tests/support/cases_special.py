"""Every differentiated ufunc of scipy.special, one line each: the name, and the interval from which each argument is drawn.

A number in place of an interval is a constant argument (a degree, an integer order). Options of `Case` follow by keyword.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cases import Case
from scipy.special import _ufuncs

from allgrad.scipy import special

if TYPE_CHECKING:
    from collections.abc import Callable

Interval = tuple[float, float]


def drawn_from(intervals: tuple[Any, ...]) -> Callable[[np.random.Generator], Any]:
    """Arrays of shapes (2, 1), (3,) and () that broadcast, uniform in the intervals."""

    def sample(rng: np.random.Generator) -> Any:
        shapes = [(2, 1), (3,), (), (3,)]
        args = [
            np.asarray(rng.uniform(*interval, shape)) if isinstance(interval, tuple) else interval
            for interval, shape in zip(intervals, shapes, strict=False)
        ]
        return tuple(args), {}

    return sample


def case(name: str, *intervals: Any, **options: Any) -> Case:
    wrt = tuple(i for i, interval in enumerate(intervals) if isinstance(interval, tuple))
    function = getattr(_ufuncs, name)
    return Case(name, function, drawn_from(intervals), wrt=wrt, **({"spellings": False} | options))


UNIT = (0.1, 0.9)
REAL = (-2.0, 2.0)
POSITIVE = (0.4, 4.0)

CASES = [
    case("cbrt", POSITIVE),
    case("exp2", REAL),
    case("exp10", UNIT),
    case("expm1", REAL),
    case("log1p", UNIT),
    case("cosm1", REAL),
    case("powm1", POSITIVE, REAL),
    case("exprel", REAL),
    case("sindg", (10, 80)),
    case("cosdg", (10, 80)),
    case("tandg", (10, 80)),
    case("cotdg", (10, 80)),
    case("radian", (10, 80), UNIT, UNIT),
    case("entr", POSITIVE),
    case("rel_entr", POSITIVE, POSITIVE),
    case("kl_div", POSITIVE, POSITIVE),
    case("xlogy", REAL, POSITIVE),
    case("xlog1py", REAL, POSITIVE),
    case("expit", REAL),
    case("logit", UNIT),
    case("log_expit", REAL),
    case("boxcox", POSITIVE, REAL),
    case("boxcox1p", POSITIVE, REAL),
    case("inv_boxcox", UNIT, UNIT),
    case("inv_boxcox1p", UNIT, UNIT),
    case("huber", (1.0, 1.2), (1.5, 3.0)),
    case("pseudo_huber", POSITIVE, REAL),
    # error functions
    case("erf", REAL, complex=True),
    case("erfc", REAL, complex=True),
    case("erfi", REAL, complex=True),
    case("erfcx", REAL, complex=True),
    case("dawsn", REAL, complex=True),
    case("wofz", REAL, float32=False, complex=True),
    case("erfinv", UNIT),
    case("erfcinv", UNIT),
    case("ndtr", REAL),
    case("log_ndtr", (-20, 3)),
    case("ndtri", UNIT),
    case("ndtri_exp", (-5, -0.2)),
    case("owens_t", REAL, REAL),
    case("voigt_profile", REAL, POSITIVE, POSITIVE),
    case("fresnel", REAL),
    case("modfresnelp", POSITIVE, float32=False),
    case("modfresnelm", POSITIVE, float32=False),
    # gamma functions
    case("psi", POSITIVE),
    case("gamma", POSITIVE),
    case("gammaln", POSITIVE),
    case("loggamma", POSITIVE),
    case("rgamma", (-3.5, 3.5)),
    case("beta", POSITIVE, POSITIVE),
    case("betaln", POSITIVE, POSITIVE),
    case("binom", (4, 7), (1, 3)),
    case("poch", POSITIVE, POSITIVE),
    case("_riemann_zeta", (1.5, 4)),
    case("zetac", (1.5, 4)),
    case("_zeta", (1.5, 4), POSITIVE),
    # incomplete gamma and beta functions, distribution functions
    case("gammainc", POSITIVE, POSITIVE),
    case("gammaincc", POSITIVE, POSITIVE),
    case("gammaincinv", POSITIVE, UNIT),
    case("gammainccinv", POSITIVE, UNIT),
    case("betainc", POSITIVE, POSITIVE, UNIT),
    case("betaincc", POSITIVE, POSITIVE, UNIT),
    case("betaincinv", POSITIVE, POSITIVE, UNIT),
    case("betainccinv", POSITIVE, POSITIVE, UNIT),
    case("btdtria", UNIT, POSITIVE, UNIT),
    case("btdtrib", POSITIVE, UNIT, UNIT),
    case("chdtr", POSITIVE, POSITIVE),
    case("chdtrc", POSITIVE, POSITIVE),
    case("chdtri", POSITIVE, UNIT),
    case("chdtriv", UNIT, POSITIVE),
    case("gdtr", POSITIVE, POSITIVE, POSITIVE),
    case("gdtrc", POSITIVE, POSITIVE, POSITIVE),
    case("gdtria", UNIT, POSITIVE, POSITIVE),
    case("gdtrib", POSITIVE, UNIT, POSITIVE),
    case("gdtrix", POSITIVE, POSITIVE, UNIT),
    case("fdtr", POSITIVE, POSITIVE, POSITIVE),
    case("fdtrc", POSITIVE, POSITIVE, POSITIVE),
    case("fdtri", POSITIVE, POSITIVE, UNIT),
    case("fdtridfd", POSITIVE, (0.3, 0.5), (1.5, 2.0)),
    case("stdtr", POSITIVE, REAL),
    case("stdtrit", POSITIVE, UNIT),
    case("stdtridf", (0.8, 0.85), (1.2, 1.5)),
    case("bdtr", 2.0, 6, UNIT, float32=False),
    case("bdtrc", 2.0, 6, UNIT, float32=False),
    case("bdtri", 2.0, 6, UNIT, float32=False),
    case("nbdtr", 2, 4, UNIT),
    case("nbdtrc", 2, 4, UNIT),
    case("nbdtri", 2, 4, UNIT),
    case("pdtr", 2.0, POSITIVE),
    case("pdtrc", 2.0, POSITIVE),
    case("pdtri", 2, UNIT),
    case("nrdtrimn", (0.6, 0.9), POSITIVE, REAL),
    case("nrdtrisd", REAL, (0.6, 0.9), POSITIVE),
    case("chndtr", POSITIVE, POSITIVE, POSITIVE),
    case("chndtrix", UNIT, POSITIVE, POSITIVE),
    case("chndtridf", (4.0, 6.0), (0.2, 0.4), UNIT, rtol=2e-3, order=1),  # as above
    case("chndtrinc", (3, 5), (1, 2), (0.2, 0.4)),
    case("ncfdtr", POSITIVE, POSITIVE, POSITIVE, POSITIVE),
    case("ncfdtri", POSITIVE, POSITIVE, POSITIVE, UNIT),
    case("ncfdtrinc", POSITIVE, POSITIVE, (0.1, 0.2), (2, 3), rtol=2e-3, order=1),  # SciPy iterates to 1e-8 only
    case("nctdtr", POSITIVE, REAL, REAL),
    case("nctdtrit", POSITIVE, REAL, UNIT),
    case("nctdtridf", (0.6, 0.7), UNIT, (1.2, 1.6)),
    case("nctdtrinc", POSITIVE, UNIT, POSITIVE, rtol=1e-3, order=1),  # as above
    case("kolmogorov", (0.5, 1.5)),
    case("kolmogi", UNIT),
    # Bessel functions
    case("jv", REAL, POSITIVE),
    case("yv", REAL, POSITIVE),
    case("iv", REAL, POSITIVE),
    case("kv", REAL, POSITIVE),
    case("hankel1", REAL, POSITIVE, float32=False),
    case("hankel2", REAL, POSITIVE, float32=False),
    case("hankel1e", REAL, POSITIVE, float32=False),
    case("hankel2e", REAL, POSITIVE, float32=False),
    case("jve", REAL, POSITIVE),
    case("yve", REAL, POSITIVE),
    case("ive", REAL, POSITIVE),
    case("kve", REAL, POSITIVE),
    *[case(name, POSITIVE) for name in ["j0", "j1", "y0", "y1", "i0", "i1", "k0", "k1", "i0e", "i1e", "k0e", "k1e"]],
    case("yn", 2, POSITIVE),
    case("kn", 2, POSITIVE),
    *[
        case(name, POSITIVE)
        for name in ["itj0y0", "iti0k0", "it2j0y0", "it2i0k0", "itstruve0", "it2struve0", "itmodstruve0"]
    ],
    case("besselpoly", POSITIVE, POSITIVE, POSITIVE),
    case("wright_bessel", 0.5, 1.5, UNIT),
    case("log_wright_bessel", 0.5, 1.5, UNIT),
    case("struve", POSITIVE, POSITIVE),
    case("modstruve", POSITIVE, POSITIVE),
    case("airy", REAL),
    case("airye", POSITIVE),
    case("itairy", POSITIVE, rtol=1e-4),  # SciPy's own values are accurate to 1e-8
    *[case(name, POSITIVE) for name in ["ber", "bei", "ker", "kei", "berp", "beip", "kerp", "keip"]],
    case("kelvin", POSITIVE, float32=False),
    case("pbdv", 1.5, REAL),
    case("pbvv", 1.5, REAL),
    case("pbwa", 0.5, REAL),
    # elliptic integrals and functions
    case("elliprc", POSITIVE, POSITIVE),
    case("elliprf", POSITIVE, POSITIVE, POSITIVE),
    case("elliprd", POSITIVE, POSITIVE, POSITIVE),
    case("elliprg", POSITIVE, POSITIVE, POSITIVE),
    case("elliprj", POSITIVE, POSITIVE, POSITIVE, POSITIVE),
    case("ellipk", UNIT),
    case("ellipkm1", UNIT),
    case("ellipe", UNIT),
    case("ellipkinc", (0.2, 6), UNIT),
    case("ellipeinc", (0.2, 6), UNIT),
    case("ellipj", REAL, UNIT),
    case("agm", POSITIVE, POSITIVE),
    # hypergeometric functions and integrals
    case("hyp0f1", POSITIVE, REAL),
    case("hyp1f1", POSITIVE, POSITIVE, REAL),
    case("hyp2f1", POSITIVE, POSITIVE, POSITIVE, (-0.6, 0.6)),
    case("hyperu", POSITIVE, POSITIVE, POSITIVE),
    case("exp1", POSITIVE),
    case("expi", POSITIVE),
    case("expn", 2, POSITIVE),
    case("sici", POSITIVE),
    case("shichi", POSITIVE),
    case("spence", POSITIVE),
    case("_lambertw", POSITIVE, 0, 1e-12, float32=False),
    case("wrightomega", POSITIVE),
    case("tklmbda", (-0.5, 0.5), (0.2, 0.8)),
    # orthogonal polynomials
    case("eval_jacobi", 3, POSITIVE, POSITIVE, UNIT),
    case("eval_legendre", 4, UNIT),
    case("eval_chebyt", 3, UNIT),
    case("eval_chebyu", 3, UNIT),
    case("eval_chebyc", 3, UNIT),
    case("eval_chebys", 3, UNIT),
    case("eval_gegenbauer", 3, POSITIVE, UNIT),
    case("eval_laguerre", 3, UNIT),
    case("eval_genlaguerre", 3, POSITIVE, UNIT),
    case("eval_hermite", 3, UNIT),
    case("eval_hermitenorm", 3, UNIT),
    case("eval_sh_legendre", 3, UNIT),
    case("eval_sh_chebyt", 3, UNIT),
    case("eval_sh_chebyu", 3, UNIT),
    case("eval_sh_jacobi", 3, (3, 4), (1, 2), UNIT),
    case("lpmv", 1, 3, UNIT),
]


def named(name: str, *intervals: Any, **options: Any) -> Case:
    """A function of allgrad.scipy.special that is no ufunc, or one of SciPy's that is made of ufuncs."""
    keywords = options.pop("keywords", {})
    function = getattr(special, name)
    wrt = tuple(i for i, interval in enumerate(intervals) if isinstance(interval, tuple))
    sample = drawn_from(intervals)
    return Case(
        f"{name}{keywords or ''}",
        function,
        lambda rng: (sample(rng)[0], keywords),
        wrt=wrt,
        **({"spellings": False} | options),
    )


CASES += [
    *[named(name, 1.5, POSITIVE, 2) for name in ["jvp", "yvp", "ivp", "kvp"]],
    named("h1vp", 1.5, POSITIVE, 1, float32=False),
    named("h2vp", 1.5, POSITIVE, 1, float32=False),
    named("zeta", (1.5, 4), POSITIVE),
    named("lambertw", POSITIVE, float32=False),
    named("sinc", REAL),
    named("softplus", REAL),
    named("assoc_laguerre", REAL, 2, 1.5),
    named("logsumexp", REAL),
    named("logsumexp", REAL, 0, keywords={"keepdims": True}),
    named("logsumexp", REAL, None, POSITIVE),
    named("logsumexp", REAL, keywords={"return_sign": True}),
    named("softmax", REAL, 0),
    named("log_softmax", REAL, 0),
    named("polygamma", 0, POSITIVE, float32=False),  # SciPy answers in float64, and we keep float32
    named("polygamma", 2, POSITIVE, float32=False),
    named("multigammaln", (1.5, 3), 3),
    named("factorial", POSITIVE, float32=False),
    named("comb", (4, 7), (1, 3)),
    named("comb", (4, 7), (1, 3), keywords={"repetition": True}),
    named("perm", (4, 7), (1, 3)),
    *[
        named(name, n, POSITIVE, float32=False)
        for name in ["spherical_jn", "spherical_yn", "spherical_in", "spherical_kn"]
        for n in (0, 2)
    ],
    named("spherical_jn", 2, POSITIVE, keywords={"derivative": True}),
    named("legendre_p", 3, UNIT, order=1),
    named("assoc_legendre_p", 3, 1, UNIT, order=1),
    named("sph_legendre_p", 3, 1, UNIT, order=1),
    named("sph_harm_y", 3, 1, UNIT, REAL, float32=False, order=1),
    named("diric", REAL, 4, float32=False),
]
