"""Dropout. See `random.py` for what a mask depends on."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.nn.errors import LayerOptionError
from allgrad.nn.module import Module
from allgrad.nn.random import random_words

Array = np.ndarray[Any, Any]


def dropout_mask(path: str, shape: tuple[int, ...], p: float, dtype: np.dtype[Any], *, samples: int = 0) -> Array:
    """The factors of dropout, read-only: 0 with probability p, else 1 / (1 - p). `samples` is the axis of the samples."""
    words = random_words(path, shape, samples=samples)
    threshold = np.uint32(min(round(p * 2.0**32), 2**32 - 1))
    mask: Array = np.multiply(words >= threshold, dtype.type(1 / (1 - p)), dtype=dtype)
    mask.flags.writeable = False
    return mask


class Dropout(Module):
    """In training, set entries to 0 with probability p and scale the others by 1 / (1 - p).

    x: any shape, float; result: the same shape. The mask depends on the current `nn.random_stream` (seed, step, worker), on this
    layer's path, and on how often it was used in this step.

    Reference: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (JMLR 15, 2014).

    Args:
        p: the probability, at least 0 and below 1.

    Raises:
        LayerOptionError: if p is out of range.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> drop = nn.Dropout(0.5)
    >>> with nn.random_stream(seed=0):
    ...     sorted(set(drop(np.ones(100)).tolist()))
    [0.0, 2.0]
    >>> drop.eval()(np.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise LayerOptionError(f"Dropout: p must be in [0, 1). Got {p!r} instead.")
        self.p = p

    rows_independent = True

    def forward(self, x: Any, samples: int = 0) -> Any:
        """Drop entries; `samples` is the axis of the samples."""
        if not self.training or self.p == 0:
            return x
        return x * dropout_mask(self.path or "", x.shape, self.p, x.dtype, samples=samples)

    def extra_repr(self) -> str:
        return f"p={self.p}"
