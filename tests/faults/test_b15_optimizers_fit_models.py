"""Every optimizer takes every model that comes with allgrad, and batch norm says what to do about a single sample."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn, optim
from allgrad.errors import AllgradError

IMAGES = np.random.default_rng(0).normal(size=(4, 28, 28, 1)).astype(np.float32)
TOKENS = np.random.default_rng(0).integers(0, 20, (2, 8))
MODELS = {
    "mlp": (lambda: nn.models.MLP([784, 16, 10], rng=0), IMAGES),
    "cnn": (lambda: nn.models.CNN(channels=(4, 4), hidden=8, rng=0), IMAGES),
    "resnet": (lambda: nn.models.ResNet18(10, channels=1, widths=(4, 4, 4, 4), rng=0), IMAGES),
    "gpt": (lambda: nn.models.GPT(20, context=8, layers=1, width=16, heads=2, rng=0), TOKENS),
    "gpt, untied": (lambda: nn.models.GPT(20, context=8, layers=1, width=16, heads=2, tied=False, rng=0), TOKENS),
    "lstm": (lambda: nn.models.LSTMLanguageModel(20, width=8, rng=0), TOKENS),
    "pinn": (lambda: nn.models.PINN([2, 8, 1], rng=0), np.random.default_rng(0).random((5, 2)).astype(np.float32)),
}
OPTIMIZERS = {
    "muon": lambda model: optim.Muon(model, lr=0.01),
    "muon as adamw": lambda model: optim.Muon(model, lr=0.01, adjust_lr="match_rms_adamw", nesterov=False),
    "adafactor": lambda model: optim.Adafactor(model, lr=0.01),
    "lamb": lambda model: optim.LAMB(model, lr=0.01),
    "lars": lambda model: optim.LARS(model, lr=0.05),
}


def loss_of(model, x):
    return np.mean((model(x) - 0.3) ** 2)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_every_model(model, optimizer) -> None:
    build, x = MODELS[model]
    net = build()
    stepping = OPTIMIZERS[optimizer](net)
    first = loss_of(net, x).item()
    for _ in range(6):
        stepping.zero_grad()
        loss_of(net, x).backward()
        stepping.step()
    assert loss_of(net, x).item() < first
    restored = OPTIMIZERS[optimizer](build())
    restored.load_state_dict(stepping.state_dict())
    assert restored.steps == stepping.steps


def step(optimizer, leaves, gradients):
    optimizer.zero_grad()
    for leaf, gradient in zip(leaves, gradients, strict=True):
        np.sum(leaf * gradient).backward()
    optimizer.step()


def test_muon_updates_vectors_embeddings_and_named_matrices_as_adamw_does() -> None:
    rng = np.random.default_rng(1)
    values = {"bias": rng.normal(size=4), "table": rng.normal(size=(5, 3)), "head.weight": rng.normal(size=(3, 2))}

    def make():
        made = {name: nn.Parameter(value, embedding=name == "table") for name, value in values.items()}
        return list(made.values()), list(made.items())

    ours, pairs = make()
    theirs, other_pairs = make()
    muon = optim.Muon(pairs, lr=0.1, adamw_lr_ratio=0.5, adamw_betas=(0.8, 0.9), weight_decay=0.2)
    adamw = optim.AdamW(other_pairs, lr=0.05, betas=(0.8, 0.9), weight_decay=0.2)
    for _ in range(4):
        gradients = [rng.normal(size=leaf.shape) for leaf in ours]
        step(muon, ours, gradients)
        step(adamw, theirs, gradients)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.value, other.value, rtol=1e-12)
    assert set(muon.state_dict()["parameters"]["bias"]) == {"steps", "exp_avg", "exp_avg_sq"}


def test_muon_takes_a_kernel_for_the_matrix_of_its_outputs() -> None:
    kernel = nn.Conv2d(3, 4, 3, rng=0, dtype=np.float64).weight
    matrix = nn.Parameter(kernel.layout.to_torch(kernel.value).reshape(4, -1))
    gradient = np.random.default_rng(1).normal(size=kernel.shape)
    for leaf, g in ((kernel, gradient), (matrix, kernel.layout.to_torch(gradient).reshape(4, -1))):
        step(optim.Muon([leaf], lr=0.1), [leaf], [g])
    np.testing.assert_allclose(kernel.layout.to_torch(kernel.value).reshape(4, -1), matrix.value, rtol=1e-10)


def test_adafactor_treats_a_flattened_image_as_pytorch_does() -> None:
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    layer = nn.FlatLinear((3, 2, 4), 5, bias=False, rng=0, dtype=np.float64)
    theirs = torch.tensor(layer.state_dict()["weight"], requires_grad=True)
    optimizer, other = optim.Adafactor(layer, lr=0.1), torch.optim.Adafactor([theirs], lr=0.1)
    gradient = np.random.default_rng(1).normal(size=layer.weight.shape)
    for _ in range(3):
        step(optimizer, [layer.weight], [gradient])
        theirs.grad = torch.tensor(layer.weight.layout.to_torch(gradient).copy())
        other.step()
    np.testing.assert_allclose(layer.state_dict()["weight"], theirs.detach().numpy(), rtol=1e-10)


def test_one_sample_without_pixels_is_refused_with_the_way_out() -> None:
    model = nn.models.ResNet18(10, channels=1, widths=(4, 4, 4, 4), rng=0)
    model(IMAGES[:1])  # 4 x 4 pixels are left in the last stage
    with pytest.raises(
        AllgradError, match=r"BatchNorm2d 'layer4\.0\.downsample\.1'.*more than one value per channel.*SyncBatchNorm"
    ):
        model(IMAGES[:1, :8, :8])
    assert model.eval()(IMAGES[:1, :8, :8]).shape == (1, 10)
    with pytest.raises(ValueError, match="Give each virtual worker two samples or more"):
        nn.BatchNorm1d(3)(ag.tensor(np.zeros((1, 3), np.float32)))
