"""Cases of the functions that reduce axes, of running sums and products, and of those that skip NaNs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cases import Case, away_from_zero, normal, one_axis, separated, shape, some_axes

if TYPE_CHECKING:
    from collections.abc import Callable

Rng = np.random.Generator


def reduced(draw: Callable[..., Any] = normal, *, empty: bool = True) -> Callable[[Rng], Any]:
    def sample(rng: Rng) -> Any:
        x = draw(rng, shape(rng, empty=empty))
        return (x,), {"axis": some_axes(rng, x.ndim), "keepdims": bool(rng.integers(2))}

    return sample


def masked(draw: Callable[..., Any] = normal, **keywords: Any) -> Callable[[Rng], Any]:
    """With a mask that leaves the first two entries of every row in."""

    def sample(rng: Rng) -> Any:
        x = draw(rng, (2 + int(rng.integers(3)), *shape(rng, high=2, empty=False)))
        where = rng.random(x.shape) < 0.5
        where[:2] = True
        axis = None if rng.random() < 0.3 else 0
        return (x,), {"axis": axis, "where": where, "keepdims": bool(rng.integers(2)), **keywords}

    return sample


def spread_of(*, empty: bool = False, **more: Any) -> Callable[[Rng], Any]:
    """Arrays with at least two entries along the first axis, reduced along it or along all."""

    def sample(rng: Rng) -> Any:
        x = normal(rng, (int(rng.integers(3, 5)), *shape(rng, high=2, empty=empty)))
        axis = [None, 0, -x.ndim, tuple(range(x.ndim))][rng.integers(4)]
        return (x,), {"axis": axis, "keepdims": bool(rng.integers(2)), **more}

    return sample


def with_zeros(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    x = away_from_zero(rng, shape)
    return np.where(rng.random(shape) < 0.4, 0.0, x)


def with_nans(draw: Callable[..., Any] = normal) -> Callable[..., np.ndarray]:
    """NaNs here and there, but none in the first two rows."""

    def make(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
        shape = (3, *shape[:2])
        x = draw(rng, shape)
        holes = rng.random(shape) < 0.4
        holes[:2] = False
        return np.where(holes, np.nan, x)

    return make


def down_columns(draw: Callable[..., Any], **more: Any) -> Callable[[Rng], Any]:
    def sample(rng: Rng) -> Any:
        x = draw(rng, shape(rng, high=2, empty=False))
        return (x,), {"axis": [None, 0, -x.ndim][rng.integers(3)], **more}

    return sample


def running(draw: Callable[..., Any] = normal) -> Callable[[Rng], Any]:
    def sample(rng: Rng) -> Any:
        x = draw(rng, shape(rng))
        return (x,), {"axis": one_axis(rng, x.ndim) if x.ndim and rng.random() < 0.7 else None}

    return sample


def running_of_the_standard(rng: Rng) -> Any:
    x = away_from_zero(rng, shape(rng, low=1, empty=False))
    return (x,), {"axis": one_axis(rng, x.ndim), "include_initial": bool(rng.integers(2))}


def averaged(rng: Rng) -> Any:
    x = normal(rng, shape(rng, low=1, empty=False))
    axis = some_axes(rng, x.ndim)
    axes = axis if isinstance(axis, tuple) else (axis,)
    full = axis is None or rng.random() < 0.5
    weights = rng.uniform(0.5, 2, x.shape if full else tuple(x.shape[i] for i in axes))
    return (x,), {"axis": axis, "weights": weights, "keepdims": bool(rng.integers(2))}


def averaged_plainly(rng: Rng) -> Any:
    x = normal(rng, shape(rng, empty=False))
    return (x,), {"axis": some_axes(rng, x.ndim), "returned": bool(rng.integers(2))}


def about_a_mean(rng: Rng) -> Any:
    x = normal(rng, (3, *shape(rng, high=2, empty=False)))
    return (x,), {"axis": 0, "mean": normal(rng, (1, *x.shape[1:])), "ddof": 1}


def trapezoids(rng: Rng) -> Any:
    y = normal(rng, shape(rng, low=1, empty=False))
    axis = one_axis(rng, y.ndim)
    x = np.cumsum(rng.uniform(0.2, 1, y.shape if rng.random() < 0.5 else y.shape[axis]), axis=-1)
    return (y, x), {"axis": axis}


def even_trapezoids(rng: Rng) -> Any:
    y = normal(rng, shape(rng, low=1, empty=False))
    return (y,), {"dx": 0.3, "axis": one_axis(rng, y.ndim)}


def along_first(draw: Callable[..., Any]) -> Callable[[Rng], Any]:
    return lambda rng: ((draw(rng, shape(rng, low=1, empty=False)),), {} if rng.random() < 0.5 else {"axis": 0})


def observed(*, second: bool = False) -> Callable[[Rng], Any]:
    def sample(rng: Rng) -> Any:
        n = int(rng.integers(4, 7))
        rowvar = bool(rng.integers(2))
        arrays = [normal(rng, (2, n) if rowvar else (n, 2)) for _ in range(1 + second)]
        return tuple(arrays), {"rowvar": rowvar}

    return sample


def observed_with_weights(rng: Rng) -> Any:
    n = int(rng.integers(4, 7))
    weights = {"fweights": rng.integers(1, 4, n), "aweights": rng.uniform(0.5, 2, n)}
    return (normal(rng, (3, n)),), weights


def counted(rng: Rng) -> Any:
    return (rng.integers(0, 5, 7), normal(rng, (7,))), {"minlength": int(rng.integers(8))}


def along_an_axis(rng: Rng) -> Any:
    x = normal(rng, shape(rng, low=1, empty=False))
    function = [lambda row: np.sum(row * row), lambda row: np.sin(row), lambda row: np.outer(row, row)][rng.integers(3)]
    return (function, one_axis(rng, x.ndim), x), {}


def over_axes(rng: Rng) -> Any:
    return (np.sum, normal(rng, (2, 3, 2)), [[0, 2], [1], [-1, 0]][rng.integers(3)]), {}


def distinct(rng: Rng) -> Any:
    x = separated(rng, shape(rng, low=1, empty=False))
    axis = one_axis(rng, x.ndim) if rng.random() < 0.5 else None
    return (x,), {"axis": axis, "return_counts": bool(rng.integers(2))}


def reduced_by_a_method(rng: Rng) -> Any:
    (x,), keywords = masked(separated, initial=-1.234)(rng)
    return (x,), keywords


CASES = [
    Case("add-reduce-where", np.add.reduce, reduced_by_a_method, spellings=False),
    Case("maximum-reduce-where", np.maximum.reduce, reduced_by_a_method, spellings=False),
    Case("sum", np.sum, reduced(), complex=True),
    Case("sum-where", np.sum, masked(initial=2.0), complex=True),
    Case("sum-dtype", np.sum, masked(dtype=np.float64)),
    Case(
        "sum-initial",
        np.sum,
        lambda rng: ((normal(rng, (2, 3)),), {"axis": 1, "initial": np.asarray(1.5)}),
        wrt=(0, "initial"),
    ),
    Case("mean", np.mean, reduced(empty=False), complex=True),
    Case("mean-where", np.mean, masked(), complex=True),
    Case("mean-dtype", np.mean, spread_of(dtype=np.float64)),
    Case("var", np.var, spread_of(ddof=1), complex=True),
    Case("var-where", np.var, masked(), complex=True),
    Case("var-correction", np.var, spread_of(correction=2)),
    Case("var-mean", np.var, about_a_mean, wrt=(0, "mean")),
    Case("std", np.std, spread_of(), complex=True, rtol=1e-5),
    Case("std-where", np.std, masked(separated), complex=True, rtol=1e-4, rtol32=1e-2),
    Case("average", np.average, averaged, wrt=(0, "weights")),
    Case("average-plain", np.average, averaged_plainly, complex=True),
    Case("max", np.max, reduced(separated, empty=False)),
    Case("max-where", np.max, masked(separated, initial=-1.234)),
    Case("min", np.min, reduced(separated, empty=False)),
    Case("min-where", np.min, masked(separated, initial=0.123)),
    Case("amax", np.amax, reduced(separated, empty=False)),
    Case("amin", np.amin, reduced(separated, empty=False)),
    Case("ptp", np.ptp, reduced(separated, empty=False)),
    Case("prod", np.prod, reduced(), complex=True, rtol=1e-5),
    Case("prod-zeros", np.prod, reduced(with_zeros), rtol=1e-5),
    Case("prod-where", np.prod, masked(away_from_zero, initial=2.0), rtol=1e-5),
    Case("cumsum", np.cumsum, running(), complex=True),
    Case("cumprod", np.cumprod, running(), complex=True, rtol=1e-5),
    Case("cumprod-zeros", np.cumprod, running(with_zeros), rtol=1e-5),
    Case("cumulative_sum", np.cumulative_sum, running_of_the_standard),
    Case("cumulative_prod", np.cumulative_prod, running_of_the_standard, rtol=1e-5),
    Case("trapezoid", np.trapezoid, trapezoids, wrt=(0, 1)),
    Case("trapezoid-even", np.trapezoid, even_trapezoids, complex=True),
    Case("nansum", np.nansum, down_columns(with_nans())),
    Case("nanprod", np.nanprod, down_columns(with_nans()), rtol=1e-5),
    Case("nanmean", np.nanmean, down_columns(with_nans(), keepdims=True)),
    Case("nanvar", np.nanvar, down_columns(with_nans(), ddof=1)),
    Case("nanstd", np.nanstd, down_columns(with_nans(separated)), rtol=1e-4, rtol32=1e-2),
    Case("nanmax", np.nanmax, down_columns(with_nans(separated))),
    Case("nanmin", np.nanmin, down_columns(with_nans(separated), keepdims=True)),
    Case("nancumsum", np.nancumsum, down_columns(with_nans())),
    Case("nancumprod", np.nancumprod, down_columns(with_nans()), rtol=1e-5),
    Case("cov", np.cov, observed(), complex=True),
    Case("cov-second", np.cov, observed(second=True), wrt=(0, 1)),
    Case("cov-weights", np.cov, observed_with_weights, wrt=(0, "aweights")),
    Case("corrcoef", np.corrcoef, observed(second=True), wrt=(0, 1), rtol=1e-5),
    Case("bincount", np.bincount, counted, wrt=(1,)),
    Case("unique", np.unique, distinct),
    Case("unique_values", np.unique_values, lambda rng: ((separated(rng, (5,)),), {}), spellings=False),
    Case("apply_along_axis", np.apply_along_axis, along_an_axis, wrt=(2,)),
    Case("apply_over_axes", np.apply_over_axes, over_axes, wrt=(1,)),
    Case("add-reduce", np.add.reduce, along_first(normal), spellings=False),
    Case("multiply-reduce", np.multiply.reduce, along_first(normal), spellings=False, rtol=1e-5),
    Case("maximum-reduce", np.maximum.reduce, along_first(separated), spellings=False),
    Case("minimum-reduce", np.minimum.reduce, along_first(separated), spellings=False),
    Case("add-accumulate", np.add.accumulate, along_first(normal), spellings=False),
    Case("multiply-accumulate", np.multiply.accumulate, along_first(normal), spellings=False, rtol=1e-5),
]
