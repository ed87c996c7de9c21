"""allgrad: data-parallel training on clusters of ordinary CPUs, on a tape of its own over plain NumPy.

    import allgrad as ag

    ag.grad(f), ag.jvp(f, ...), ag.tensor(..., requires_grad=True)     derivatives of NumPy code
    ag.nn, ag.optim                                                    networks and optimizers
    ag.comm, ag.parallel                                               ranks, and one model on all of them
    ag.train                                                           the trainer behind the command `allgrad`

Importing the package imports the tape and NumPy's derivatives; the rest comes at its first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from allgrad import numpy as numpy
from allgrad.autodiff import *  # noqa: F403 (its __init__ names what is public)

_PACKAGES = ("autodiff", "cli", "comm", "data", "kernels", "memory", "nn", "optim", "parallel", "scipy", "train")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"allgrad.{name}")
    raise AttributeError(f"module 'allgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES})
