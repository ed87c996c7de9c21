"""Cases for np.fft: odd and even lengths, filled and cut, every normalization, axes of either sign."""

from __future__ import annotations

import numpy as np
from cases import Case, normal, one_axis, shape


def _norm(rng):
    norm = [None, "backward", "ortho", "forward"][rng.integers(4)]
    return {} if norm is None else {"norm": norm}


def one(rng, low=1):
    x = normal(rng, (*shape(rng, low=0, high=2), int(rng.integers(low, 7))))
    keywords = _norm(rng)
    axis = one_axis(rng, x.ndim) if rng.random() < 0.5 and 0 not in x.shape and min(x.shape) >= low else -1
    if axis != -1:
        keywords["axis"] = axis
    if rng.random() < 0.5:
        keywords["n"] = int(rng.integers(low, 9))
    return (x,), keywords


def one_and_more(rng):
    """At least two entries: irfft of one has no result."""
    return one(rng, low=2)


def many(rng, low=2):
    x = normal(rng, tuple(int(n) for n in rng.integers(low, 5, 3)))
    keywords = _norm(rng)
    if rng.random() < 0.6:
        axes = [(0, 1), (-1, 0), (2,), (0, 1, 2), (1, -1)][rng.integers(5)]
        keywords["axes"] = axes
        if rng.random() < 0.6:
            keywords["s"] = tuple(int(n) if rng.random() < 0.8 else -1 for n in rng.integers(low, 6, len(axes)))
    return (x,), keywords


def many_back(rng):
    """As `many`, without -1 in s, which NumPy's irfftn takes for the length of the result."""
    args, keywords = many(rng)
    if -1 in keywords.get("s", ()):
        keywords["s"] = tuple(3 if n == -1 else n for n in keywords["s"])
    return args, keywords


def two(rng):
    (x,), keywords = many_back(rng)
    if len(keywords.get("axes", (0, 1))) != 2:
        keywords.pop("axes")
        keywords.pop("s", None)
    return (x,), keywords


def shift(rng):
    x = normal(rng, (3, 4, 2))
    axes = [None, 0, -1, (0, 1), (2, -2)][rng.integers(5)]
    return (x,), {} if axes is None else {"axes": axes}


CASES = [
    Case("fft", np.fft.fft, one, complex=True),
    Case("ifft", np.fft.ifft, one, complex=True),
    Case("rfft", np.fft.rfft, one),
    Case("irfft", np.fft.irfft, one_and_more, complex=True),
    Case("hfft", np.fft.hfft, one_and_more, complex=True),
    Case("ihfft", np.fft.ihfft, one),
    Case("fftn", np.fft.fftn, many, complex=True),
    Case("ifftn", np.fft.ifftn, many, complex=True),
    Case("rfftn", np.fft.rfftn, many),
    Case("irfftn", np.fft.irfftn, many_back, complex=True),
    Case("fft2", np.fft.fft2, two, complex=True),
    Case("ifft2", np.fft.ifft2, two, complex=True),
    Case("rfft2", np.fft.rfft2, two),
    Case("irfft2", np.fft.irfft2, two, complex=True),
    Case("fftshift", np.fft.fftshift, shift, complex=True),
    Case("ifftshift", np.fft.ifftshift, shift, complex=True),
    *(
        Case(
            f.__name__,
            f,
            lambda rng: ((int(rng.integers(1, 7)), np.asarray(rng.uniform(0.5, 2.0))), {}),
            (1,),
            float32=False,
        )
        for f in (np.fft.fftfreq, np.fft.rfftfreq)
    ),
]
