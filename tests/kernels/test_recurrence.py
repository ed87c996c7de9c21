from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag
from allgrad.kernels import bf16


def lstm_formula(z: Any, u: Any, h: Any, cell: Any) -> tuple[Any, Any]:
    """All states, and the last cell."""
    n, states = h.shape[1], []
    for z_t in z:
        a = z_t + h @ u
        i, f, o = (1 / (1 + np.exp(-a[:, k * n : (k + 1) * n])) for k in (0, 1, 3))
        cell = f * cell + i * np.tanh(a[:, 2 * n : 3 * n])
        h = o * np.tanh(cell)
        states.append(h)
    return np.stack(states), cell


def gru_formula(z: Any, u: Any, bias: Any, h: Any) -> Any:
    """All states."""
    n, states = h.shape[1], []
    for z_t in z:
        p = h @ u
        r, keep = (1 / (1 + np.exp(-(z_t + p)[:, k * n : (k + 1) * n])) for k in range(2))
        new = np.tanh(z_t[:, 2 * n :] + r * (p[:, 2 * n :] + bias))
        h = new + keep * (h - new)
        states.append(h)
    return np.stack(states)


SHAPES = [(1, 1, 1), (2, 3, 5), (3, 4, 33), (2, 32, 128), (2, 0, 4)]
"""(length, samples, n)."""


def numbers(dtype: Any, *shapes: tuple[int, ...]) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)


def tolerance(dtype: Any) -> dict[str, float]:
    return {"rtol": 1e-4, "atol": 3e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-13}


def run_lstm(kernels: Any, z: Any, u: Any, h: Any, cell: Any, g: Any, dlast: Any, **options: Any) -> tuple[Any, ...]:
    """States, the last cell, and the cotangents of z, h and the cell."""
    z, (steps, samples, _) = z.copy(), z.shape
    states, cells = (np.full((steps + 1, samples, len(u)), np.nan, z.dtype) for _ in range(2))
    states[0], cells[0], dz, dcell = h, cell, np.full_like(z, np.nan), dlast.copy()
    kernels.lstm_forward(z, u, states, cells, **options)
    back = kernels.lstm_backward(g, z, u, cells, dz, dcell, **options)
    return states[1:], cells[-1], dz, back, dcell


def run_gru(kernels: Any, z: Any, u: Any, bias: Any, h: Any, g: Any, **options: Any) -> tuple[Any, ...]:
    """States, and the cotangents of z, of the products with u, and of h."""
    z, (steps, samples, _) = z.copy(), z.shape
    states, candidates = np.full((steps + 1, samples, len(u)), np.nan, z.dtype), np.full_like(g, np.nan)
    states[0], dz, dproduct = h, np.full_like(z, np.nan), np.full_like(z, np.nan)
    kernels.gru_forward(z, u, bias, states, candidates, **options)
    back = kernels.gru_backward(g, z, u, candidates, states, dz, dproduct, **options)
    return states[1:], dz, dproduct, back


@pytest.mark.parametrize("shape", SHAPES)
def test_an_lstm_equals_its_formula(kernels: Any, dtype: Any, shape: tuple[int, int, int]) -> None:
    steps, samples, n = shape
    z, u, h, cell, g, dlast = numbers(dtype, (steps, samples, 4 * n), (n, 4 * n), *[shape[1:]] * 2, shape, shape[1:])
    u /= np.sqrt(n).astype(dtype)
    expected, pull = ag.vjp(lstm_formula, *(np.float64(a) for a in (z, u, h, cell)))
    dz, _, dh, dcell = pull((np.float64(g), np.float64(dlast)))
    found = run_lstm(kernels, z, u, h, cell, g, dlast, rounds=False)
    for one, other in zip(found, (*expected, dz, dh, dcell), strict=True):
        np.testing.assert_allclose(one, other, **tolerance(dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [True, False])
def test_a_gru_equals_its_formula(kernels: Any, dtype: Any, shape: tuple[int, int, int], biased: bool) -> None:
    steps, samples, n = shape
    z, u, bias, h, g = numbers(dtype, (steps, samples, 3 * n), (n, 3 * n), (n,), shape[1:], shape)
    u /= np.sqrt(n).astype(dtype)
    bias *= biased
    expected, pull = ag.vjp(gru_formula, *(np.float64(a) for a in (z, u, bias, h)))
    dz, du, _, dh = pull(np.float64(g))
    states, dz_, dproduct, back = run_gru(kernels, z, u, bias if biased else None, h, g, rounds=False)
    before = np.concatenate([h[None], states[:-1]])
    du_ = before.reshape(-1, n).T @ dproduct.reshape(-1, 3 * n)
    for one, other in ((states, expected), (dz_, dz), (back, dh), (du_, du)):
        np.testing.assert_allclose(one, other, **tolerance(dtype))


def test_small_cells_keep_their_relative_accuracy(kernels: Any) -> None:
    cell = np.geomspace(1e-12, 1e-3, 16, dtype=np.float32).reshape(2, 8)
    states, cells = np.zeros((2, 2, 2, 8), np.float32)
    cells[0] = cell
    kernels.lstm_forward(np.zeros((1, 2, 32), np.float32), np.zeros((8, 32), np.float32), states, cells, rounds=False)
    np.testing.assert_allclose(states[1], np.tanh(cell.astype(float) / 2) / 2, rtol=1e-6)


def test_operands_of_products_are_rounded_to_bfloat16(kernels: Any) -> None:
    z, u, h, cell, g, dlast = numbers(np.float32, (1, 5, 36), (9, 36), *[(5, 9)] * 2, (1, 5, 9), (5, 9))
    u, h = bf16.rounded(u), h + np.float32(1)
    low = run_lstm(kernels, z, u, bf16.rounded(h), cell, g, dlast, rounds=False)
    found = run_lstm(kernels, z, u, h, cell, g, dlast, rounds=True)
    for one, other in zip(found[:3], low[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(found[3], bf16.rounded(found[2][0]) @ u.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("run", [run_lstm, run_gru])
def test_a_sample_has_the_same_bits_in_any_company_and_anywhere(kernels: Any, run: Any) -> None:
    if kernels.name == "numpy":
        pytest.skip("BLAS gives a row other bits when the number of rows changes")
    gates = 4 if run is run_lstm else 3
    z, u, h, other, g = numbers(np.float32, (3, 7, gates * 19), (19, gates * 19), (7, 19), (7, 19), (3, 7, 19))

    def last(samples: slice, offset: int) -> list[bytes]:
        def moved(a: Any) -> Any:
            memory = np.empty(a.size + offset, a.dtype)[offset:].reshape(a.shape)
            memory[...] = a
            return memory

        ends = (moved(h[samples]), moved(other[samples])) if run is run_lstm else (None, moved(h[samples]))
        after = (moved(other[samples]),) if run is run_lstm else ()
        found = run(kernels, moved(z[:, samples]), u, *ends, moved(g[:, samples]), *after, rounds=False)
        return [np.atleast_3d(a)[..., -2:, :].tobytes() if a.ndim == 3 else a[-2:].tobytes() for a in found]

    assert last(slice(None), 0) == last(slice(None), 3) == last(slice(5, None), 1)
