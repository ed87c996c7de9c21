"""The hot loops of training, in two sets behind one interface: compiled by numba (the default), and NumPy.

The set is chosen once, at the first call of `active()`: the environment variable ALLGRAD_KERNELS (`numpy` or `numba`)
if it is set, else numba if it is installed, else NumPy. `use(name)` chooses, or changes, by hand. Importing this
package imports neither numba nor the kernels.

Example:
    >>> import numpy as np
    >>> from allgrad import kernels
    >>> kernels.use("numpy").name
    'numpy'
    >>> kernels.active().softmax_forward(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from typing import TYPE_CHECKING, cast

from allgrad.kernels.blas import describe as describe_blas
from allgrad.kernels.blas import set_up as set_up_blas

if TYPE_CHECKING:
    from allgrad.kernels.interface import Kernels

__all__ = ["NAMES", "VARIABLE", "active", "describe_blas", "portable", "set_up_blas", "use"]

NAMES = ("numpy", "numba")
VARIABLE = "ALLGRAD_KERNELS"

_active: Kernels | None = None


def active() -> Kernels:
    """The kernels in use; chosen at the first call.

    Raises:
        ValueError: if ALLGRAD_KERNELS names no set of kernels.
        ModuleNotFoundError: if it asks for numba, which is not installed.
    """
    return _active or use(None)


def use(name: str | None) -> Kernels:
    """Choose the kernels by name; `None` is the environment's choice, or the default.

    Bits depend on the set of kernels, so change it between runs, not within one.

    Raises:
        ValueError: if there is no set of this name.
        ModuleNotFoundError: if numba is asked for and is not installed.
    """
    global _active
    if _active is not None and name == _active.name:
        return _active
    origin = "kernels.use"
    if name is None:
        origin, name = VARIABLE, os.environ.get(VARIABLE)
    if not name:
        name = "numba" if importlib.util.find_spec("numba") else "numpy"
    if name not in NAMES:
        raise ValueError(f"{origin}: kernels must be one of {', '.join(NAMES)}. Got {name!r} instead.")
    if name == "numba" and not importlib.util.find_spec("numba"):
        raise ModuleNotFoundError(
            f"{origin}: numba is not installed. Install it (pip install numba), or choose 'numpy'."
        )
    if name == "numba" and not _has_fused_multiply_add():
        warnings.warn(
            "This CPU has no fused multiply-add, which the numba kernels need; the NumPy kernels are used instead.",
            RuntimeWarning,
            stacklevel=2,
        )
        name = "numpy"
    _active = cast("Kernels", importlib.import_module(f"allgrad.kernels.{name}_kernels").kernels)
    return _active


def portable() -> tuple[bool, str]:
    """Whether the kernels in use give the same bits on every CPU with fused multiply-add, at any thread count; and why (not).

    It speaks for layers, losses and optimizers of `allgrad.nn` and `allgrad.optim`. What a model computes with NumPy's own
    functions (`np.exp`, `@`) has the bits of NumPy and its BLAS on that CPU.

    Example:
        >>> from allgrad import kernels
        >>> kernels.use("numpy").name
        'numpy'
        >>> kernels.portable()[0]
        False
    """
    if active().name == "numpy":
        return (
            False,
            "the NumPy kernels take products and elementary functions from BLAS and NumPy, which differ between CPUs",
        )
    return True, "products, sums and elementary functions run in one order, with fused multiply-adds, on every CPU"


def _has_fused_multiply_add() -> bool:
    from allgrad.kernels.matmul.product import host_tile

    return host_tile() is not None
