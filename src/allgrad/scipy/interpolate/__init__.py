"""`scipy.interpolate` with derivatives: the same names and signatures, for arrays and Tensors."""

from typing import Any as _Any

import scipy.interpolate as _scipy_interpolate

from allgrad.scipy.interpolate.piecewise import Akima1DInterpolator as Akima1DInterpolator
from allgrad.scipy.interpolate.piecewise import CubicHermiteSpline as CubicHermiteSpline
from allgrad.scipy.interpolate.piecewise import CubicSpline as CubicSpline
from allgrad.scipy.interpolate.piecewise import PchipInterpolator as PchipInterpolator
from allgrad.scipy.interpolate.piecewise import PPoly as PPoly
from allgrad.scipy.interpolate.splines import BarycentricInterpolator as BarycentricInterpolator
from allgrad.scipy.interpolate.splines import BSpline as BSpline
from allgrad.scipy.interpolate.splines import KroghInterpolator as KroghInterpolator
from allgrad.scipy.interpolate.splines import RBFInterpolator as RBFInterpolator
from allgrad.scipy.interpolate.splines import RegularGridInterpolator as RegularGridInterpolator
from allgrad.scipy.interpolate.splines import interp1d as interp1d
from allgrad.scipy.interpolate.splines import interpn as interpn
from allgrad.scipy.interpolate.splines import make_interp_spline as make_interp_spline


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_interpolate, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_interpolate)})
