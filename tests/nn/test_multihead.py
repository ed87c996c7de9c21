"""Multi-head attention and the transformer block against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn

X = np.random.default_rng(0).standard_normal((3, 6, 8)).astype(np.float32)
PADDING = np.zeros((3, 6), bool)
PADDING[1, 4:] = True
PADDING[2, 5:] = True


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_multihead_equals_torch(causal: bool, padded: bool, bias: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    mask = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1) if causal else None
    padding = torch.tensor(PADDING) if padded else None
    check_against_torch(
        nn.MultiheadAttention(8, 2, causal=causal, bias=bias, rng=0),
        torch.nn.MultiheadAttention(8, 2, bias=bias, batch_first=True),
        X,
        run=lambda m, x: m(x, PADDING if padded else None),
        run_theirs=lambda m, x: m(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0],
    )


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("bias", [True, False])
def test_block_equals_torch(norm_first: bool, activation: str, bias: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    theirs = torch.nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first, bias=bias
    )
    mask = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
    check_against_torch(
        nn.TransformerBlock(
            8, 2, hidden=16, activation=activation, causal=True, norm_first=norm_first, bias=bias, rng=0
        ),
        theirs,
        X,
        run_theirs=lambda m, x: m(x, src_mask=mask, is_causal=True),
    )


def test_grouped_heads_equal_full_ones_with_repeated_keys() -> None:
    grouped = nn.MultiheadAttention(8, 4, key_heads=2, causal=True, rng=0)
    full = nn.MultiheadAttention(8, 4, causal=True, rng=0)
    state = grouped.state_dict()
    for name in ("in_proj_weight", "in_proj_bias"):
        q, k, v = np.split(state[name], [8, 12])
        repeat = lambda a: np.repeat(a.reshape(2, 2, *a.shape[1:]), 2, axis=0).reshape(8, *a.shape[1:])  # noqa: E731
        state[name] = np.concatenate([q, repeat(k), repeat(v)])
    full.load_state_dict(state)
    np.testing.assert_allclose(grouped(X).value, full(X).value, rtol=1e-5, atol=1e-6)


def test_rotary_makes_attention_depend_on_order_only_through_distance() -> None:
    layer = nn.MultiheadAttention(8, 2, rotary=6, rng=0)
    plain = nn.MultiheadAttention(8, 2, rng=0)
    plain.load_state_dict(layer.state_dict())
    assert np.abs(layer(X).value - plain(X).value).max() > 1e-3
    np.testing.assert_allclose(plain(X[:, ::-1].copy()).value[:, ::-1], plain(X).value, rtol=1e-4, atol=1e-6)
    assert [name for name, _ in layer.named_parameters()] == [name for name, _ in plain.named_parameters()]


@pytest.mark.parametrize("options", [{}, {"causal": True, "key_heads": 1}, {"rotary": 5}, {"norm": "rms"}])
def test_second_order_through_a_block(options: dict) -> None:
    block = nn.TransformerBlock(4, 2, hidden=6, rng=0, dtype=np.float64, **options)
    check_derivatives(block, [np.random.default_rng(0).standard_normal((2, 4, 4))], rtol=1e-5)


def test_dropout_of_attention_weights_keeps_the_mean_and_is_off_in_evaluation() -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=0.5, causal=True, rng=0)
    exact = layer.eval()(X).value
    layer.train()
    with nn.random_stream(seed=0):
        drawn = np.mean([layer(X).value for _ in range(600)], axis=0)
    np.testing.assert_allclose(drawn, exact, atol=0.15)
    with nn.random_stream(seed=0):
        one = layer(X).value
    with nn.random_stream(seed=0):
        np.testing.assert_array_equal(layer(X).value, one)
    assert np.abs(one - exact).max() > 1e-3


def test_bad_input_is_named() -> None:
    model = nn.Sequential(nn.MultiheadAttention(8, 2, rng=0))
    with pytest.raises(ValueError, match=r"MultiheadAttention '0': expects .*8.* Got shape \(3, 6, 7\)"):
        model(X[..., :7])
    with pytest.raises(ValueError, match=r"expects \(batch, length, 8\)"):
        model(X[0])
    with pytest.raises(TypeError, match="float64"):
        model(X.astype(np.float64))
    with pytest.raises(ValueError, match=r"key_padding_mask must be bool of shape \(3, 6\).*int64"):
        nn.MultiheadAttention(8, 2, rng=0)(X, PADDING.astype(int))
    for options in ({"heads": 3}, {"heads": 4, "key_heads": 3}):
        with pytest.raises(ValueError, match="must divide"):
            nn.MultiheadAttention(8, rng=0, **options)
    with pytest.raises(ValueError, match="'batch'"):
        nn.TransformerBlock(8, 2, norm="batch", rng=0)


def test_checkpointed_block_has_the_same_bits() -> None:
    block = nn.TransformerBlock(8, 2, causal=True, dropout=0.3, rng=0)
    gradients = []
    for wrap in (lambda f: f, ag.checkpoint):
        block.zero_grad()
        with nn.random_stream(seed=1):
            np.sum(wrap(block)(ag.tensor(X)) ** 2).backward()
        gradients.append([p.grad for p in block.parameters()])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)
