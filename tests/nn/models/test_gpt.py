"""The GPT: against PyTorch, tied and untied, its options, and the same bits whatever the addresses."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_against_torch

import allgrad as ag
from allgrad import nn, optim

TOKENS = np.random.default_rng(0).integers(0, 11, (3, 6))
SIZES = {"context": 8, "layers": 2, "width": 8, "heads": 2}


def torch_gpt(tied: bool):
    import torch

    t = torch.nn

    class Model(t.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = t.Embedding(11, 8), t.Embedding(8, 8)
            self.blocks = t.ModuleList(
                t.TransformerEncoderLayer(8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
                for _ in range(2)
            )
            self.norm, self.head = t.LayerNorm(8), t.Linear(8, 11, bias=False)
            if tied:
                self.head.weight = self.tokens.weight

        def forward(self, x):
            length = x.shape[1]
            x = self.tokens(x) + self.positions.weight[:length]
            mask = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
            for block in self.blocks:
                x = block(x, src_mask=mask, is_causal=True)
            return self.head(self.norm(x))

    torch.manual_seed(0)
    return Model()


@pytest.mark.parametrize("tied", [True, False])
def test_equals_torch_and_files_go_both_ways(tied: bool, tmp_path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    from safetensors.numpy import load_file, save_file
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_model

    model, theirs = nn.models.GPT(11, tied=tied, **SIZES), torch_gpt(tied)
    check_against_torch(model, theirs, TOKENS, rtol=1e-4, atol=1e-5)
    # Ours to PyTorch.
    save_file(model.state_dict(), tmp_path / "ours.safetensors")
    fresh = torch_gpt(tied)
    fresh.load_state_dict(load_torch(tmp_path / "ours.safetensors"), strict=True)
    x = torch.from_numpy(TOKENS)
    np.testing.assert_allclose(fresh(x).detach().numpy(), model(TOKENS).value, rtol=1e-4, atol=1e-5)
    # PyTorch's to us; save_model drops one of tied names.
    save_model(theirs, str(tmp_path / "theirs.safetensors"))
    again = nn.models.GPT(11, tied=tied, rng=9, **SIZES)
    again.load_state_dict(load_file(tmp_path / "theirs.safetensors"), strict=True)
    np.testing.assert_allclose(again(TOKENS).value, theirs(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_tied_head_is_the_table_of_the_tokens() -> None:
    model = nn.models.GPT(11, tied=True, **SIZES)
    assert model.head.weight is model.tokens.weight
    assert {"head.weight", "tokens.weight"} <= set(model.state_dict())
    assert "head.weight" not in dict(model.named_parameters())
    assert nn.models.GPT(11, tied=False, **SIZES).parameter_count() == model.parameter_count() + 88


OPTIONS = [
    {},
    {"tied": False},
    {"positions": "rotary", "norm": "rms", "key_heads": 1, "bias": False},
    {"dropout": 0.2},
    {"dropout": 0.2, "recompute": True},
    {"activation": "gelu_tanh"},
]


def ten_steps(options: dict, offset: int = 0) -> tuple[list[float], list[bytes]]:
    model = nn.models.GPT(11, rng=1, **SIZES, **options)
    for p in model.parameters():
        memory = np.empty((2, p.size + offset), np.float32)
        p.bind(value=memory[0, offset:].reshape(p.shape), grad=memory[1, offset:].reshape(p.shape))
    loss, losses = nn.CrossEntropyLoss(), []
    for step in range(10):
        model.zero_grad()
        with nn.random_stream(seed=0, step=step):
            y = loss(model(TOKENS), np.roll(TOKENS, -1, axis=1))
            y.backward()
        losses.append(y.item())
        for p in model.parameters():
            p.assign(p.value - np.float32(0.5) * p.grad)
    return losses, [p.value.tobytes() for p in model.parameters()]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_ten_steps_learn_and_give_the_same_bits_at_any_address(options: dict) -> None:
    losses, bits = ten_steps(options)
    assert losses[0] == pytest.approx(np.log(11), abs=0.1)
    assert losses[-1] < losses[0] - 0.05
    assert ten_steps(options, offset=5) == (losses, bits)


def test_recomputation_changes_no_bit() -> None:
    assert ten_steps({"dropout": 0.2}) == ten_steps({"dropout": 0.2, "recompute": True})


def test_gradients_live_in_the_arena() -> None:
    model = nn.models.GPT(11, **SIZES)
    adam = optim.AdamW(model.named_parameters(), lr=1e-3)
    nn.CrossEntropyLoss()(model(TOKENS), TOKENS).backward()
    flat = adam.flat.grads.flat[np.dtype(np.float32)]
    for name, p in model.named_parameters():
        assert np.shares_memory(p.grad, flat), name
    assert np.isfinite(flat).all()


def test_the_future_is_not_seen() -> None:
    model = nn.models.GPT(11, **SIZES)
    other = TOKENS.copy()
    other[:, 4:] = (other[:, 4:] + 1) % 11
    np.testing.assert_array_equal(model(TOKENS).value[:, :4], model(other).value[:, :4])


def test_second_order_runs() -> None:
    model = nn.models.GPT(11, dtype=np.float64, **SIZES)
    weight = model.norm.weight.numpy().copy()

    def loss(w):
        model.norm.__dict__["weight"] = w
        return nn.CrossEntropyLoss()(model(TOKENS), TOKENS)

    v = np.random.default_rng(0).standard_normal(8)
    step = 1e-4
    plain = lambda g: g.detach().value if isinstance(g, ag.Tensor) else g  # noqa: E731
    expected = (plain(ag.grad(loss)(weight + step * v)) - plain(ag.grad(loss)(weight - step * v))) / (2 * step)
    np.testing.assert_allclose(plain(ag.hvp(loss, weight, v)), expected, rtol=1e-4, atol=1e-8)


def test_mistakes_are_named() -> None:
    model = nn.models.GPT(11, **SIZES)
    with pytest.raises(ValueError, match=r"length up to 8\). Got shape \(3, 9\)"):
        model(np.zeros((3, 9), int))
    with pytest.raises(ValueError, match=r"Embedding 'tokens': index 11"):
        model(TOKENS + 1)
    with pytest.raises(ValueError, match="'absolute'"):
        nn.models.GPT(11, positions="absolute", **SIZES)
