"""Embedding, learned and rotary positions."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn

INDICES = np.array([[1, 4, 1], [0, 1, 4]])


@pytest.mark.parametrize("count", [5, 3000])  # a kernel may treat small and big tables differently
@pytest.mark.parametrize("padding", [None, 1, -1])
def test_equals_torch(count: int, padding: int | None) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    check_against_torch(
        nn.Embedding(count, 4, padding_index=padding, rng=0),
        torch.nn.Embedding(count, 4, padding_idx=padding),
        INDICES,
        run=lambda m, x: m(x) * 2,
    )


@pytest.mark.parametrize("padding", [None, 1])
def test_derivatives(padding: int | None) -> None:
    layer = nn.Embedding(5, 4, padding_index=padding, rng=0, dtype=np.float64)
    w = layer.weight.numpy().copy()

    def through(w):
        layer.__dict__["weight"] = w
        return np.sin(layer(INDICES))

    if padding is None:
        check_derivatives(through, [w])
    else:
        assert ag.grad(lambda w: np.sum(through(w)))(w)[padding].tolist() == [0.0] * 4
        second = ag.grad(lambda w: np.sum(ag.grad(lambda v: np.sum(through(v)))(w) ** 2))(w)
        assert second[padding].tolist() == [0.0] * 4
        assert np.abs(second[0]).max() > 0


def test_gradient_goes_into_bound_memory_and_clears_it() -> None:
    layer = nn.Embedding(5, 4, rng=0)
    layer.weight.bind(grad=np.full((5, 4), np.nan, np.float32))
    np.sum(layer(INDICES)).backward()
    np.testing.assert_array_equal(layer.weight.grad[:, 0], np.bincount(INDICES.reshape(-1), minlength=5))


def test_bad_indices_are_named() -> None:
    model = nn.Sequential(nn.Embedding(5, 4, rng=0))
    with pytest.raises(TypeError, match=r"Embedding '0': indices must be integers. Got float64, shape \(2,\)"):
        model(np.zeros(2))
    with pytest.raises(
        ValueError, match=r"Embedding '0': index 5 at position \(1, 0\) is out of range for 5 rows.*\(2, 2\)"
    ):
        model(np.array([[0, 1], [5, 2]]))
    with pytest.raises(ValueError, match="index -1"):
        model(np.array([-1]))
    with pytest.raises(ValueError, match="padding_index"):
        nn.Embedding(5, 4, padding_index=5, rng=0)


@pytest.mark.parametrize("length", [3, 7])
def test_learned_positions_equal_an_embedding_of_positions(length: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    x = np.random.default_rng(0).standard_normal((2, length, 4)).astype(np.float32)
    check_against_torch(
        nn.LearnedPositions(7, 4, rng=0),
        torch.nn.Embedding(7, 4),
        x,
        run_theirs=lambda m, x: x + m(torch.arange(x.shape[1])),
    )


def test_learned_positions_derivatives_and_errors() -> None:
    layer = nn.LearnedPositions(5, 4, rng=0, dtype=np.float64)

    def through(x, w):
        layer.__dict__["weight"] = w
        return np.sin(layer(x))

    rng = np.random.default_rng(0)
    check_derivatives(through, [rng.standard_normal((2, 3, 4)), rng.standard_normal((5, 4))])
    with pytest.raises(ValueError, match=r"length up to 5, 4\)\. Got shape \(2, 6, 4\)"):
        layer(np.zeros((2, 6, 4)))


def test_rotary_is_the_rotation_of_the_paper_and_relative() -> None:
    layer = nn.RotaryPositions(6, 16, dtype=np.float64)
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal(6), rng.standard_normal(6)
    x = np.broadcast_to(np.stack([q, k])[None, None], (1, 16, 2, 6))
    y = layer(x).value[0]
    # As complex numbers: multiplication by exp(i position rate).
    rates = 10000.0 ** (-np.arange(3) / 3)
    expected = (q[:3] + 1j * q[3:]) * np.exp(1j * np.arange(16)[:, None] * rates)
    np.testing.assert_allclose(y[:, 0], np.concatenate([expected.real, expected.imag], -1))
    # A score depends on the distance alone.
    np.testing.assert_allclose(y[3, 0] @ y[1, 1], y[9, 0] @ y[7, 1])


def test_rotary_turns_only_the_first_heads_and_has_derivatives() -> None:
    layer = nn.RotaryPositions(4, 8, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 4))
    np.testing.assert_array_equal(layer(x, 2).value[:, :, 2], x[:, :, 2])
    check_derivatives(lambda x: np.sin(layer(x, 2)), [x])
    with pytest.raises(ValueError, match=r"RotaryPositions: expects float64 .*Got float64, shape \(2, 9, 3, 4\)"):
        layer(np.zeros((2, 9, 3, 4)))
    with pytest.raises(ValueError, match="even"):
        nn.RotaryPositions(3, 8)
