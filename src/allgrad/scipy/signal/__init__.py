"""`scipy.signal` with derivatives: the same names and signatures, for arrays and Tensors. Windows are constants."""

from typing import Any as _Any

import scipy.signal as _scipy_signal

from allgrad.scipy.signal.convolution import convolve as convolve
from allgrad.scipy.signal.convolution import convolve2d as convolve2d
from allgrad.scipy.signal.convolution import correlate as correlate
from allgrad.scipy.signal.convolution import correlate2d as correlate2d
from allgrad.scipy.signal.convolution import fftconvolve as fftconvolve
from allgrad.scipy.signal.convolution import oaconvolve as oaconvolve
from allgrad.scipy.signal.filters import decimate as decimate
from allgrad.scipy.signal.filters import detrend as detrend
from allgrad.scipy.signal.filters import filtfilt as filtfilt
from allgrad.scipy.signal.filters import hilbert as hilbert
from allgrad.scipy.signal.filters import lfilter as lfilter
from allgrad.scipy.signal.filters import lfilter_zi as lfilter_zi
from allgrad.scipy.signal.filters import resample as resample
from allgrad.scipy.signal.filters import resample_poly as resample_poly
from allgrad.scipy.signal.filters import savgol_filter as savgol_filter
from allgrad.scipy.signal.filters import sosfilt as sosfilt
from allgrad.scipy.signal.filters import upfirdn as upfirdn


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_signal, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_signal)})
