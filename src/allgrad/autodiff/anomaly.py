"""Anomaly detection: the first NaN or infinity raises, and names the operation and the line of code that called it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from allgrad.autodiff.errors import AnomalyError

_OURS = ("allgrad.autodiff", "allgrad.numpy", "allgrad.scipy", "allgrad.nn", "numpy")


def check_finite(name: str, result: Any, during: str = "gave") -> None:
    """Raise `AnomalyError` if a result of the operation `name` (an array, a Tensor or a tuple of them) is not finite."""
    for a in result if isinstance(result, tuple) else (result,):
        value = np.asarray(getattr(a, "value", a))
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            bad = value[~np.isfinite(value)].flat[0]
            count = int(np.count_nonzero(~np.isfinite(value)))
            raise AnomalyError(
                f"{name} {during} {bad} ({count} of {value.size} entries, shape {value.shape}), at {caller()}."
            )


def caller() -> str:
    """The nearest line of code outside this package's own machinery and NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
