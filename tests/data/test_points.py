"""The heat equation's points and its exact solution."""

from __future__ import annotations

import numpy as np

from allgrad.data.points import BOUNDARY, EXACT, INITIAL, INTERIOR, heat_equation_source, heat_solution

SIZES = {"interior": 50, "boundary": 20, "initial": 10, "grid": 7}


def test_the_solution_solves_the_equation() -> None:
    alpha, h = 0.3, 1e-4
    p = np.random.default_rng(0).uniform(0.1, 0.9, (20, 2))
    x, t = np.array([h, 0.0]), np.array([0.0, h])
    u_t = (heat_solution(p + t, alpha) - heat_solution(p - t, alpha)) / (2 * h)
    u_xx = (heat_solution(p + x, alpha) - 2 * heat_solution(p, alpha) + heat_solution(p - x, alpha)) / h**2
    np.testing.assert_allclose(u_t, alpha * u_xx, atol=1e-5)


def test_points_lie_where_their_kind_says() -> None:
    data = heat_equation_source(alpha=0.1, seed=0, **SIZES)
    batch = data.train.batch(np.arange(len(data.train)))
    x, t = batch["inputs"].T
    kind = batch["kind"]
    assert [(kind == k).sum() for k in (INTERIOR, BOUNDARY, INITIAL)] == [50, 20, 10]
    assert set(x[kind == BOUNDARY]) == {0.0, 1.0}
    assert (t[kind == INITIAL] == 0).all()
    assert ((x > 0) & (x < 1) & (t > 0) & (t < 1))[kind == INTERIOR].all()
    exact = heat_solution(batch["inputs"], 0.1)
    np.testing.assert_allclose(batch["targets"][kind != INTERIOR], exact[kind != INTERIOR], atol=1e-6)


def test_the_grid_is_the_exact_solution() -> None:
    data = heat_equation_source(alpha=0.1, seed=0, **SIZES)
    batch = data.valid.batch(np.arange(len(data.valid)))
    assert len(data.valid) == 49
    assert (batch["kind"] == EXACT).all()
    np.testing.assert_allclose(batch["targets"], heat_solution(batch["inputs"].astype(float), 0.1), atol=1e-6)


def test_the_seed_decides() -> None:
    first, same, other = (heat_equation_source(alpha=0.1, seed=seed, **SIZES).train for seed in (0, 0, 1))
    rows = np.arange(80)
    np.testing.assert_array_equal(first.batch(rows)["inputs"], same.batch(rows)["inputs"])
    assert (first.batch(rows)["inputs"] != other.batch(rows)["inputs"]).any()
