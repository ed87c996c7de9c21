"""SciPy with derivatives: `from allgrad.scipy import linalg` is a drop-in for `from scipy import linalg`.

SciPy's special functions are ufuncs, so plain `scipy.special.gammaln(t)` works on a Tensor. All other functions convert
their arguments to arrays, which a tracked Tensor refuses; take them from here instead. Each submodule has SciPy's names
and signatures. A name without a rule is SciPy's own function, which raises on a tracked Tensor.

SciPy is an extra: `pip install allgrad[scipy]`. Importing `allgrad` does not import it.

>>> import numpy as np, allgrad as ag
>>> from allgrad.scipy import linalg, special
>>> float(ag.grad(special.gammaln)(1.0))           # minus Euler's constant  # doctest: +ELLIPSIS
-0.57721566490153...
>>> float(ag.grad(lambda t: np.trace(linalg.expm(t * np.eye(2))))(0.0))
2.0
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

from allgrad.scipy.registry import TABLE, Row

FAMILIES = (
    "fft",
    "integrate",
    "interpolate",
    "linalg",
    "ndimage",
    "optimize",
    "signal",
    "sparse",
    "spatial",
    "special",
    "stats",
)
"""The submodules, each imported at its first use."""


def coverage() -> list[Row]:
    """What this package differentiates, one row per function, sorted by family and name.

    >>> [row for row in coverage() if row.name == "gammaln"]
    [Row(name='gammaln', family='special', kind='differentiated')]
    """
    for family in FAMILIES:
        importlib.import_module(f"allgrad.scipy.{family}")
    return sorted(TABLE, key=lambda row: (row.family, row.name))


def summary() -> str:
    """The counts of `coverage()`, one line per family.

    >>> print(summary())                                  # doctest: +ELLIPSIS
    fft: ...
    """
    rows = coverage()
    counts = Counter((row.family, row.kind) for row in rows)
    return "\n".join(
        f"{family}: {counts[family, 'differentiated']} differentiated, {counts[family, 'constant']} constant"
        for family in sorted({row.family for row in rows})
    )


def __getattr__(name: str) -> Any:
    if name in FAMILIES:
        return importlib.import_module(f"allgrad.scipy.{name}")
    raise AttributeError(f"module 'allgrad.scipy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *FAMILIES})
