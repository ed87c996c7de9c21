"""`numpy.fft` with derivatives, for lists of Tensors too."""

from __future__ import annotations

from typing import Any

import numpy as _numpy

from allgrad.numpy.namespace import offer as _offer
from allgrad.numpy.standard import fftfreq as fftfreq
from allgrad.numpy.standard import rfftfreq as rfftfreq


def __getattr__(name: str) -> Any:
    return _offer(name, _numpy.fft, globals())


def __dir__() -> list[str]:
    return dir(_numpy.fft)
