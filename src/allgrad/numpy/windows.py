"""Derivatives of sliding windows and of weighted histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import as_tensor, axes_of, refuse, value
from allgrad.numpy.dispatch import implements


@implements(sliding_window_view)
def windows(x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False) -> Any:
    """The windows of x along some axes, as new axes at the end; a copy, where NumPy gives a view."""
    refuse("sliding_window_view", subok=subok or None, writeable=writeable or None)
    sizes = tuple(int(n) for n in np.atleast_1d(window_shape))
    axes = axes_of(tuple(range(x.ndim)) if axis is None else axis, x.ndim, "sliding_window_view")
    if len(sizes) != len(axes) or any(not 0 <= n <= x.shape[i] for i, n in zip(axes, sizes, strict=True)):
        raise ValueError(f"sliding_window_view: windows of {sizes} along the axes {axes} do not fit shape {x.shape}.")
    for i, n in zip(axes, sizes, strict=True):
        places = np.arange(x.shape[i] - n + 1)[:, None] + np.arange(n)
        x = np.moveaxis(np.take(x, places, axis=i), i + 1, -1)
    return x


@implements(np.histogram)
def histogram(a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    """Differentiated by the weights. The counts are constant in the entries between jumps, so tracked entries are refused."""
    for name, x in (("a", a), ("bins", bins)):
        if isinstance(x, Tensor) and (x.node is not None or x.tangents is not None):
            raise NoRuleError(f"np.histogram is constant in {name} between jumps; pass {name}.detach().")
    if weights is None:
        return np.histogram(value(a), value(bins), range, density)
    entries, weights = np.ravel(value(a)), np.ravel(as_tensor(weights))
    edges = np.histogram_bin_edges(entries, value(bins), range)
    place = np.searchsorted(edges, entries, "right") - 1
    place = np.where(entries == edges[-1], len(edges) - 2, place)
    inside = np.flatnonzero((place >= 0) & (place < len(edges) - 1))
    counts = np.bincount(place[inside], weights[inside], len(edges) - 1).astype(weights.dtype)
    return (counts / np.diff(edges).astype(float) / np.sum(counts) if density else counts), edges
