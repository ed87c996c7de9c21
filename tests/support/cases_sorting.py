"""Cases of sort, partition and the order statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cases import Case, one_axis, separated, shape, some_axes

if TYPE_CHECKING:
    from collections.abc import Callable

Rng = np.random.Generator

METHODS = [
    *("inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull"),
    *("linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest"),
]


def sorted_along(rng: Rng) -> Any:
    x = separated(rng, shape(rng, low=1))
    return (x,), {"axis": one_axis(rng, x.ndim) if rng.random() < 0.7 else None}


def partitioned(rng: Rng) -> Any:
    x = separated(rng, shape(rng, low=1, empty=False))
    axis = one_axis(rng, x.ndim) if rng.random() < 0.7 else None
    return (x, int(rng.integers(x.size if axis is None else x.shape[axis]))), {"axis": axis}


def reduced(rng: Rng) -> Any:
    x = separated(rng, shape(rng, empty=False))
    return (x,), {"axis": some_axes(rng, x.ndim), "keepdims": bool(rng.integers(2))}


def quantiles(method: str, scale: float, most_axes: int = 2) -> Callable[[Rng], Any]:
    def sample(rng: Rng) -> Any:
        (x,), keywords = reduced(rng)
        q = rng.choice([0.0, 0.25, 0.5, 0.3, 0.77, 1.0], shape(rng, high=most_axes, empty=False)) * scale
        return (x, q), {**keywords, "method": method}

    return sample


def tracked_quantile(rng: Rng) -> Any:
    """q where n q is far from a whole number, for rows of 4."""
    return (separated(rng, (4,)), np.asarray(rng.uniform(0.4, 0.6, 2))), {}


# NumPy's nan-quantiles misplace the axes of a q of two axes with keepdims, so q has one at most.
def with_nans(sample: Callable[[Rng], Any]) -> Callable[[Rng], Any]:
    def changed(rng: Rng) -> Any:
        (x, *rest), keywords = sample(rng)
        x = np.stack([np.where(rng.random(x.shape) < 0.3, np.nan, x), x + 1e-2 / 7])
        axis = keywords["axis"]
        keywords["axis"] = None if axis is None else (0, *(i % (x.ndim - 1) + 1 for i in np.atleast_1d(axis)))
        return (x, *rest), keywords

    return changed


CASES = [
    Case("sort", np.sort, sorted_along, complex=True, spellings=False),
    Case("sort_complex", np.sort_complex, lambda rng: ((separated(rng, shape(rng, low=1)),), {}), complex=True),
    Case("partition", np.partition, partitioned, spellings=False),
    Case("median", np.median, reduced),
    Case("nanmedian", np.nanmedian, with_nans(reduced)),
    *(Case(f"quantile-{m}", np.quantile, quantiles(m, 1)) for m in METHODS),
    Case("quantile-q", np.quantile, tracked_quantile, wrt=(0, 1)),
    Case("percentile", np.percentile, quantiles("linear", 100)),
    Case("nanquantile", np.nanquantile, with_nans(quantiles("linear", 1, 1))),
    Case("nanpercentile", np.nanpercentile, with_nans(quantiles("hazen", 100, 1))),
    Case("quantile-single", np.quantile, lambda rng: ((separated(rng, (5,)), 0.3), {})),
]
