"""`scipy.ndimage` with derivatives: linear filters, and spline interpolation by values and coordinates.

Rank filters (median, minimum), morphology and measurements are SciPy's own, and refuse tracked Tensors.
"""

from typing import Any as _Any

import scipy.ndimage as _scipy_ndimage

from allgrad.scipy.ndimage.filters import convolve as convolve
from allgrad.scipy.ndimage.filters import convolve1d as convolve1d
from allgrad.scipy.ndimage.filters import correlate as correlate
from allgrad.scipy.ndimage.filters import correlate1d as correlate1d
from allgrad.scipy.ndimage.filters import gaussian_filter as gaussian_filter
from allgrad.scipy.ndimage.filters import gaussian_filter1d as gaussian_filter1d
from allgrad.scipy.ndimage.filters import gaussian_gradient_magnitude as gaussian_gradient_magnitude
from allgrad.scipy.ndimage.filters import gaussian_laplace as gaussian_laplace
from allgrad.scipy.ndimage.filters import laplace as laplace
from allgrad.scipy.ndimage.filters import prewitt as prewitt
from allgrad.scipy.ndimage.filters import sobel as sobel
from allgrad.scipy.ndimage.filters import uniform_filter as uniform_filter
from allgrad.scipy.ndimage.filters import uniform_filter1d as uniform_filter1d
from allgrad.scipy.ndimage.splines import affine_transform as affine_transform
from allgrad.scipy.ndimage.splines import map_coordinates as map_coordinates
from allgrad.scipy.ndimage.splines import shift as shift
from allgrad.scipy.ndimage.splines import spline_filter as spline_filter
from allgrad.scipy.ndimage.splines import spline_filter1d as spline_filter1d
from allgrad.scipy.ndimage.splines import zoom as zoom


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_ndimage, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_ndimage)})
