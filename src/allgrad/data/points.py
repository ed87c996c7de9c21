"""Collocation points for the heat equation, as a data set.

The problem is u_t = alpha u_xx on 0 <= x <= 1, 0 <= t <= 1, with u(0, t) = u(1, t) = 0 and u(x, 0) = sin(pi x), whose
solution is u = exp(-alpha pi^2 t) sin(pi x). A sample is a point: `inputs` (2,) = (x, t), `targets` (1,) = the required value of
u there, and `kind`, the term of the loss that it belongs to: 0 in the interior (where the equation must hold; the target is not
used), 1 on the boundary, 2 at t = 0. The shuffle decides how many points of each kind a batch has; each term of the loss has its
own count. For evaluation the points are a grid with the exact solution, all of kind 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.datasets import ArrayDataset, DataInfo, DataSource, check_fitted
from allgrad.data.digest import settings_digest
from allgrad.data.errors import DataError
from allgrad.data.random import stream
from allgrad.kernels.portable_math import exp, sin

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BOUNDARY", "EXACT", "INITIAL", "INTERIOR", "MAX_POINTS", "heat_equation_source", "heat_solution"]

INTERIOR, BOUNDARY, INITIAL, EXACT = range(4)

MAX_POINTS = 100_000_000
"""Points of a training set or of a grid, at most: they take up to 10 GB while they are made."""


def heat_solution(points: np.ndarray, alpha: float) -> np.ndarray:
    """u at points (n, 2) = (x, t), as (n, 1).

    Example:
        >>> round(float(heat_solution(np.array([[0.5, 0.0]]), alpha=0.1)[0, 0]), 6)
        1.0
    """
    x, t = points[:, :1], points[:, 1:]
    solution: np.ndarray = exp(-alpha * np.pi**2 * t) * sin(np.pi * x)
    return solution


def heat_equation_source(
    *,
    alpha: float,
    interior: int,
    boundary: int,
    initial: int,
    grid: int,
    seed: int,
    fitted: Mapping[str, Any] | None = None,
) -> DataSource:
    """Random training points of the three kinds, and an evaluation grid of `grid` x `grid` points.

    The `boundary` points alternate between the two ends. Arrays are float32; `kind` is int64. `info.extra` has "alpha".

    Args:
        fitted: stored preprocessing; nothing is fitted here, and `alpha` must be the stored one.
    """
    described = {"kind": "heat_equation", "alpha": alpha}
    check_fitted(fitted or described, described, "heat_equation")
    count = max(interior + boundary + initial, grid**2)
    if count > MAX_POINTS:
        raise DataError(
            f"heat_equation: {count:,} points do not fit into memory. At most {MAX_POINTS:,} are supported."
        )
    rng = stream(seed, path="heat_equation", use="points")
    inside = rng.random((interior, 2))
    ends = np.stack([np.arange(boundary) % 2, rng.random(boundary)], axis=1)
    begin = np.stack([rng.random(initial), np.zeros(initial)], axis=1)
    points = np.concatenate([inside, ends, begin])
    kind = np.repeat([INTERIOR, BOUNDARY, INITIAL], [interior, boundary, initial])
    targets = np.where(kind[:, None] == INITIAL, sin(np.pi * points[:, :1]), 0.0)
    axis = np.linspace(0.0, 1.0, grid)
    lattice = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    exact = np.full(len(lattice), EXACT)
    return DataSource(
        _dataset(points, targets, kind),
        _dataset(lattice, heat_solution(lattice, alpha), exact),
        DataInfo("points", (2,), 1, {"alpha": alpha}),
        described,
        settings_digest({**described, "points": [interior, boundary, initial], "grid": grid, "seed": seed}),
    )


def _dataset(points: np.ndarray, targets: np.ndarray, kind: np.ndarray) -> ArrayDataset:
    return ArrayDataset(
        {"inputs": points.astype(np.float32), "targets": targets.astype(np.float32), "kind": kind.astype(np.int64)}
    )
