"""scipy.signal, scipy.ndimage and scipy.fft: values, both modes, second order, float32; see tests/support/cases.py."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

from cases import Case, check, drawn

from allgrad.scipy import fft, ndimage, signal


def case(module, name, *draws, function=None, label="", **options):
    keywords = options.pop("keywords", {})
    wrt = tuple(i for i, draw in enumerate(draws) if callable(draw))
    return Case(
        f"{module.__name__.rsplit('.', 1)[-1]}.{name}{label}{keywords or ''}",
        function or getattr(module, name),
        lambda rng: (tuple(draw(rng) if callable(draw) else draw for draw in draws), keywords),
        wrt=wrt,
        **({"spellings": False, "rtol": 1e-6} | options),
    )


of_signal = functools.partial(case, signal)
of_ndimage = functools.partial(case, ndimage)
of_fft = functools.partial(case, fft)


def m(*shape):
    return lambda rng: rng.standard_normal(shape)


def stable(rng):
    """The denominator of a filter with poles well inside the unit circle."""
    return np.array([2.0, *rng.uniform(-0.4, 0.4, 2)])


def sections(rng):
    return np.array([[1.0, 0.3, 0.2, *rng.uniform(-0.3, 0.3, 2)] for _ in range(2)])


def sosfilt(five, *rest):
    """By all coefficients but a[0], which must be 1."""
    ones = np.ones((2, 1), dtype=five.dtype)
    return signal.sosfilt(np.concatenate([five[:, :3], ones, five[:, 3:]], axis=1), *rest)


MODES = ("full", "same", "valid")
SIGNAL = [
    *[of_signal("convolve", m(6), m(3), mode, complex=True) for mode in MODES],
    of_signal("convolve", m(3), m(6), "valid", label=" shorter"),
    of_signal("convolve", m(3), m(6), "same", label=" shorter"),
    of_signal("convolve", m(4, 5), m(2, 3), "same"),
    *[of_signal("correlate", m(6), m(3), mode) for mode in MODES],
    of_signal("correlate", m(4, 5), m(2, 3), "full"),
    of_signal("convolve2d", m(4, 5), m(2, 3), "same"),
    of_signal("correlate2d", m(4, 5), m(2, 3), "valid"),
    *[of_signal("fftconvolve", m(6), m(3), mode) for mode in MODES],
    of_signal("fftconvolve", m(2, 6), m(1, 3), "full", keywords={"axes": 1}),
    of_signal("oaconvolve", m(9), m(3), "same"),
    of_signal("lfilter", m(2), stable, m(2, 6)),
    of_signal("lfilter", m(4), stable, m(6, 2), keywords={"axis": 0}),
    of_signal("lfilter", m(2), stable, m(6), -1, m(2)),
    of_signal("lfilter_zi", m(3), stable, float32=False),
    of_signal("filtfilt", m(3), stable, m(2, 14), float32=False),
    of_signal("filtfilt", m(3), stable, m(14), keywords={"padtype": "even", "padlen": 4}, float32=False),
    of_signal("filtfilt", m(3), stable, m(14), keywords={"padtype": "constant"}, float32=False),
    of_signal("sosfilt", sections, m(2, 6), function=sosfilt),
    of_signal("sosfilt", sections, m(6), -1, m(2, 2), function=sosfilt),
    of_signal("hilbert", m(2, 6), float32=False),
    of_signal("detrend", m(2, 6)),
    of_signal("detrend", m(6, 2), keywords={"axis": 0, "type": "constant"}),
    of_signal("resample", m(6, 2), 9, float32=False),
    of_signal("resample_poly", m(6, 2), 3, 2, float32=False),
    of_signal("upfirdn", np.array([1.0, 2.0, 0.5]), m(2, 6), 2, float32=False),
    of_signal("decimate", m(40), 2, float32=False),
    of_signal("savgol_filter", m(2, 8), 5, 2),
]

PLACES = [lambda rng: rng.uniform(0.1, 2.9, (2, 5)) // 1 + rng.uniform(0.1, 0.4, (2, 5))]
BOUNDARIES = ("reflect", "mirror", "nearest", "wrap", "constant")
NDIMAGE = [
    *[of_ndimage("correlate", m(5, 6), m(3, 2), keywords={"mode": mode}) for mode in BOUNDARIES],
    of_ndimage("convolve", m(5, 6), m(3, 2)),
    of_ndimage("convolve", m(5, 6), m(3, 3), keywords={"origin": 1, "mode": "constant", "cval": 2.0}),
    of_ndimage("correlate1d", m(5, 6), m(3), 0),
    of_ndimage("convolve1d", m(5, 6), m(4), keywords={"origin": 1}),
    of_ndimage("gaussian_filter1d", m(5, 9), lambda rng: np.array(1.05)),
    of_ndimage("gaussian_filter1d", m(5, 9), lambda rng: np.array(1.05), keywords={"order": 1, "axis": 0}),
    of_ndimage("gaussian_filter", m(5, 6), lambda rng: np.array([1.05, 0.7])),
    of_ndimage("gaussian_filter", m(5, 6), 0.7, keywords={"order": (2, 0), "mode": "wrap"}),
    of_ndimage("uniform_filter1d", m(5, 6), 3),
    of_ndimage("uniform_filter", m(5, 6), (3, 2)),
    of_ndimage("sobel", m(5, 6), 0),
    of_ndimage("prewitt", m(5, 6)),
    of_ndimage("laplace", m(5, 6)),
    of_ndimage("gaussian_laplace", m(5, 6), 0.8),
    of_ndimage("gaussian_gradient_magnitude", m(5, 6), 0.8),
    of_ndimage("spline_filter1d", m(5, 6), float32=False),
    of_ndimage("spline_filter", m(5, 6), float32=False),
    *[of_ndimage("map_coordinates", m(4, 5), *PLACES, keywords={"order": n}, float32=False) for n in (1, 2, 3)],
    of_ndimage(
        "map_coordinates", m(4, 5), lambda rng: rng.uniform(-3, 8, (2, 6)), keywords={"mode": "mirror"}, float32=False
    ),
    of_ndimage(
        "map_coordinates", m(4, 5), lambda rng: rng.uniform(-1, 5, (2, 6)), keywords={"cval": 1.0}, float32=False
    ),
    of_ndimage("shift", m(5, 6), lambda rng: rng.uniform(0.2, 0.8, 2), float32=False),
    of_ndimage(
        "affine_transform",
        m(5, 6),
        lambda rng: np.eye(2) * 0.7 + 0.05 * rng.random((2, 2)),
        float32=False,
        keywords={"offset": 0.3},
    ),
    of_ndimage("zoom", m(4, 5), 1.5, float32=False),
]

FFT = [
    *[
        of_fft(name, m(2, 6), type, keywords={"norm": norm})
        for name in ("dct", "idct", "dst", "idst")
        for type in (1, 2, 3, 4)
        for norm in ("backward", "forward", "ortho")
        if not (name in ("dct", "idct") and type == 1 and norm == "ortho")
    ],
    of_fft("dct", m(2, 6), keywords={"n": 4, "axis": 1}),
    of_fft("dct", m(6, 2), keywords={"n": 8, "axis": 0}),
    *[of_fft(name, m(3, 4)) for name in ("dctn", "idctn", "dstn", "idstn")],
    of_fft("dctn", m(3, 4), keywords={"axes": 1, "s": 3}),
    *[of_fft(name, m(2, 6)) for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fft2", "ifft2", "rfft2")],
    *[of_fft(name, m(3, 4)) for name in ("irfft2", "fftn", "ifftn", "rfftn", "irfftn", "fftshift", "ifftshift")],
]


@pytest.mark.parametrize("case", [*SIGNAL, *NDIMAGE, *FFT], ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)
