"""allgrad: data-parallel training on clusters of ordinary CPUs, on a tape of its own over plain NumPy.

    import allgrad as ag

    ag.grad(f), ag.jvp(f, ...), ag.tensor(..., requires_grad=True)     derivatives of NumPy code
    ag.numpy, ag.scipy                                                 NumPy and SciPy with derivatives
    ag.nn, ag.optim                                                    networks and optimizers
    ag.comm, ag.parallel                                               ranks, and one model on all of them
    ag.train                                                           the trainer behind the command `allgrad`
    ag.launch(function, ranks=4)                                       a function on several ranks, from a notebook or a script
    ag.load(RUN)                                                       a trained model with its preprocessing

Importing the package imports the tape and NumPy's derivatives; the rest is imported at its first use.
"""

from __future__ import annotations

import importlib as _importlib
from typing import Any as _Any

from allgrad import autodiff as autodiff
from allgrad import numpy as numpy
from allgrad.autodiff import *  # noqa: F403 (its __all__ is public)
from allgrad.autodiff import __all__ as _names

_PACKAGES = (
    "autodiff",
    "cli",
    "comm",
    "data",
    "kernels",
    "memory",
    "nn",
    "numpy",
    "optim",
    "parallel",
    "scipy",
    "train",
)

__all__ = [*_names, *_PACKAGES, "__version__", "launch", "load"]  # noqa: F405, PLE0604 - strings; __getattr__ knows the last


def __getattr__(name: str) -> _Any:
    # The last two need other libraries, so `import *` leaves them out.
    if name in _PACKAGES or name in ("interop", "sklearn"):
        return _importlib.import_module(f"allgrad.{name}")
    if name == "load":
        return _importlib.import_module("allgrad.train.run.predictor").load
    if name == "launch":
        return _importlib.import_module("allgrad.launching").launch
    if name == "__version__":
        from importlib.metadata import version

        return version("allgrad")
    raise AttributeError(f"module 'allgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
