"""Dropout, with a mask that has a name: see `random.py` for what it depends on."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.nn.errors import LayerOptionError
from allgrad.nn.module import Module
from allgrad.nn.random import current_stream

Array = np.ndarray[Any, Any]


def dropout_mask(path: str, shape: tuple[int, ...], p: float, dtype: np.dtype[Any]) -> Array:
    """What dropout multiplies with: 0 with probability p, else 1 / (1 - p); read-only."""
    count = int(np.prod(shape))
    words = current_stream().words(path, count)
    threshold = np.uint32(min(round(p * 2.0**32), 2**32 - 1))
    mask: Array = np.multiply(words >= threshold, dtype.type(1 / (1 - p)), dtype=dtype).reshape(shape)
    mask.flags.writeable = False
    return mask


class Dropout(Module):
    """In training, sets entries to 0 with probability p and scales the others by 1 / (1 - p). Srivastava et al., 2014.

    The mask depends on the entered `nn.random_stream` (seed, step, worker), this layer's path and the number of its use.

    Raises:
        ValueError: if p is not in [0, 1).

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

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        return x * dropout_mask(self.path or "", x.shape, self.p, x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}"
