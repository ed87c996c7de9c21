from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag


def formula(a: Any, cell: Any) -> tuple[Any, Any]:
    """The new cell and h, of sums (4, rows, n) in which the sigmoids' are halved."""
    i, f, o = (1 / (1 + np.exp(-2 * a[k])) for k in (0, 1, 3))
    new = f * cell + i * np.tanh(a[2])
    return new, o * np.tanh(new)


def numbers(rows: int, n: int, dtype: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    wide = [rng.normal(size=(4, rows, n)) for _ in range(2)]
    return tuple(a.astype(dtype) for a in (*wide, *(rng.normal(size=(rows, n)) for _ in range(3))))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 33), (32, 128), (0, 4)])
def test_an_lstm_step_equals_its_formula(kernels: Any, dtype: Any, shape: tuple[int, int]) -> None:
    z, product, cell, dh, dnew = numbers(*shape, dtype)
    tolerance = {"rtol": 2e-5, "atol": 2e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-14}
    wanted = [np.float64(a) for a in (z + product, cell, dh, dnew)]
    (new_, h_), pull = ag.vjp(formula, *wanted[:2])
    da_, dcell_ = pull((wanted[3], wanted[2]))

    new, h = np.full_like(cell, np.nan), np.full_like(cell, np.nan)
    kernels.lstm_forward(z, product, cell, new, h)
    np.testing.assert_allclose(new, new_, **tolerance)
    np.testing.assert_allclose(h, h_, **tolerance)

    dcell, dz = dnew.copy(), np.full((shape[0], 4 * shape[1]), np.nan, dtype)
    kernels.lstm_backward(z, cell, new, dh, dcell, dz)
    np.testing.assert_allclose(dcell, dcell_, **tolerance)
    by_gate = np.array([0.5, 0.5, 1, 0.5])[:, None, None] * da_  # of twice the sum, for a sigmoid
    np.testing.assert_allclose(dz.reshape(shape[0], 4, shape[1]).transpose(1, 0, 2), by_gate, **tolerance)


def test_small_cells_keep_their_relative_accuracy(kernels: Any) -> None:
    z, product = np.zeros((4, 2, 8), np.float32), np.zeros((4, 2, 8), np.float32)
    cell = np.geomspace(1e-12, 1e-3, 16, dtype=np.float32).reshape(2, 8)
    new, h = np.empty_like(cell), np.empty_like(cell)
    kernels.lstm_forward(z, product, cell, new, h)
    np.testing.assert_allclose(h, np.tanh(cell.astype(float) / 2) / 2, rtol=1e-6)


def test_a_row_has_the_same_bits_in_any_company_and_anywhere(kernels: Any) -> None:
    z, product, cell, dh, dnew = numbers(7, 19, np.float32)

    def step(rows: slice, offset: int) -> list[bytes]:
        def moved(a: Any) -> Any:
            memory = np.empty(a.size + offset, a.dtype)[offset:].reshape(a.shape)
            memory[...] = a
            return memory

        z_, p_, c_ = moved(z[:, rows]), moved(product[:, rows]), moved(cell[rows])
        new, h, dcell = moved(np.zeros_like(c_)), moved(np.zeros_like(c_)), moved(dnew[rows])
        dz = moved(np.zeros((len(c_), 76), np.float32))
        kernels.lstm_forward(z_, p_, c_, new, h)
        kernels.lstm_backward(z_, c_, new, moved(dh[rows]), dcell, dz)
        return [a[-2:].tobytes() for a in (new, h, dcell, dz)]

    assert step(slice(None), 0) == step(slice(None), 3) == step(slice(5, None), 1)


def gru_formula(a: Any, p: Any, bias: Any, before: Any) -> Any:
    """h, of sums (3, rows, n) in which the sigmoids' are halved."""
    r, keep = (1 / (1 + np.exp(-2 * (a[k] + p[k]))) for k in range(2))
    new = np.tanh(a[2] + r * (p[2] + bias))
    return new + keep * (before - new)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 33), (32, 128), (0, 4)])
@pytest.mark.parametrize("biased", [True, False])
def test_a_gru_step_equals_its_formula(kernels: Any, dtype: Any, shape: tuple[int, int], biased: bool) -> None:
    rng = np.random.default_rng(1)
    z, product = (rng.normal(size=(3, *shape)).astype(dtype) for _ in range(2))
    before, dh = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    bias = rng.normal(size=shape[1]).astype(dtype) if biased else np.zeros(shape[1], dtype)
    tolerance = {"rtol": 2e-5, "atol": 2e-6} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-14}
    wanted, pull = ag.vjp(gru_formula, *(np.float64(a) for a in (z, product, bias, before)))
    da, dp, _, dbefore = pull(np.float64(dh))
    factors = np.array([0.5, 0.5, 1])[:, None, None]  # of twice the sum, for a sigmoid

    h, candidate = np.full_like(before, np.nan), np.full_like(before, np.nan)
    kernels.gru_forward(z, product, bias if biased else None, before, candidate, h)
    np.testing.assert_allclose(h, wanted, **tolerance)
    np.testing.assert_allclose(candidate, product[2] + bias, **tolerance)

    dz, dproduct, d = (np.full(s, np.nan, dtype) for s in [(shape[0], 3 * shape[1])] * 2 + [shape])
    d[...] = dh
    kernels.gru_backward(z, candidate, before, d, dz, dproduct)
    for found, exact in ((dz, da), (dproduct, dp)):
        np.testing.assert_allclose(
            found.reshape(shape[0], 3, shape[1]).transpose(1, 0, 2), exact * factors, **tolerance
        )
    np.testing.assert_allclose(d, dbefore, **tolerance)
