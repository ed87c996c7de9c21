"""Which of NumPy's functions are differentiated, read from the table of rules itself."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from allgrad.autodiff.tensor import RULES
from allgrad.numpy.dispatch import CONSTANT, WRITERS

FAMILIES: dict[str, Any] = {
    "numpy": np,
    "linalg": np.linalg,
    "fft": np.fft,
    "emath": np.emath,
    "lib.stride_tricks": np.lib.stride_tricks,
}

ALIASES = {
    np.amax: np.max,
    np.amin: np.min,
    np.around: np.round,
    np.radians: np.deg2rad,
    np.degrees: np.rad2deg,
    np.linalg.cross: np.cross,
    np.linalg.diagonal: np.diagonal,
    np.linalg.matmul: np.matmul,
    np.linalg.matrix_transpose: np.matrix_transpose,
    np.linalg.outer: np.outer,
    np.linalg.tensordot: np.tensordot,
    np.linalg.trace: np.trace,
    np.linalg.vecdot: np.vecdot,
}
"""Second names of a function that NumPy makes separate objects. They are counted once."""


class Row(NamedTuple):
    """A function that has a rule: its NumPy name, its family, and its kind, "differentiated" or "constant"."""

    name: str
    family: str
    kind: str


def coverage() -> list[Row]:
    """The NumPy functions that have a rule, one row per function; aliases appear once.

    "constant" means that the derivative is zero wherever it exists, or that the result is not a number. A function that is
    not in the table raises a `TypeError` with its name when it is called on a tracked Tensor.

    >>> rows = coverage()
    >>> [row for row in rows if row.name in ("sin", "argmax")]
    [Row(name='argmax', family='numpy', kind='constant'), Row(name='sin', family='numpy', kind='differentiated')]
    """
    rows = []
    for family, module in FAMILIES.items():
        functions: dict[Any, str] = {}
        for name in sorted(dir(module)):
            function = getattr(module, name)
            if not name.startswith("_") and _listed(function) and function not in ALIASES:
                # An object with several names (np.abs, np.absolute) is listed under its own __name__.
                own = getattr(function, "__name__", name)
                functions[function] = own if getattr(module, own, None) is function else functions.get(function, name)
        found = [Row(name, family, "constant" if f in CONSTANT else "differentiated") for f, name in functions.items()]
        rows += sorted(found)
    return rows


def _listed(function: Any) -> bool:
    try:
        return callable(function) and function in RULES and function not in WRITERS
    except TypeError:  # not hashable
        return False


def summary() -> str:
    """The counts of `coverage()`, one line per family.

    >>> print(summary())                                  # doctest: +ELLIPSIS
    numpy: ... differentiated, ... constant
    linalg: ... differentiated...
    """
    counts = Counter((row.family, row.kind) for row in coverage())
    return "\n".join(
        f"{family}: {counts[family, 'differentiated']} differentiated, {counts[family, 'constant']} constant"
        for family in FAMILIES
    )
