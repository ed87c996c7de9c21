"""Ten steps of each optimizer that PyTorch has, against PyTorch's, with gradients missing now and then."""

import numpy as np
import pytest

from allgrad import optim

torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")

MATRICES = {"w": (7, 5), "tall": (20, 3), "square": (6, 6)}
CASES = [
    ("SGD", {"lr": 0.1}, {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}, {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}, {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {}),
    ("Adam", {"lr": 0.01}, {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}, {}),
    ("AdamW", {"lr": 0.01}, {}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}, {}),
    ("Adafactor", {"lr": 0.05}, {}),
    ("Adafactor", {"lr": 2.0, "beta2_decay": -0.6, "eps": (1e-3, 1e-2), "d": 1.5, "weight_decay": 0.01}, {}),
]


def run(leaves, give, rng, name, options, translate, shapes, dtype, steps=10):
    ours = leaves(dtype, shapes) if shapes else leaves(dtype)
    theirs = {n: torch.tensor(t.value.copy(), requires_grad=True) for n, t in ours.items()}
    optimizer = getattr(optim, name)(list(ours.items()), **options)
    other = getattr(torch.optim, name)(list(theirs.values()), **{translate.get(k, k): v for k, v in options.items()})
    names = list(ours)
    for step in range(steps):
        missing = {names[1]} if step in (0, 4) else set()
        gradients = {n: rng.normal(size=t.shape).astype(dtype) for n, t in ours.items() if n not in missing}
        optimizer.zero_grad()
        give(ours, gradients)
        for n, t in theirs.items():
            t.grad = torch.tensor(gradients[n]) if n in gradients else None
        optimizer.step()
        other.step()
    return ours, theirs


@pytest.mark.parametrize(("name", "options", "translate"), CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ten_steps(leaves, give, rng, name, options, translate, dtype):
    ours, theirs = run(leaves, give, rng, name, options, translate, None, dtype)
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    for n in ours:
        np.testing.assert_allclose(ours[n].value, theirs[n].detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=n)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.02},
        {"lr": 0.02, "momentum": 0.8, "nesterov": False, "weight_decay": 0.0},
        {"lr": 0.02, "adjust_lr": "match_rms_adamw"},
    ],
)
def test_muon(leaves, give, rng, options):
    start = leaves(np.float32, MATRICES)
    before = {n: t.value.copy() for n, t in start.items()}
    ours, theirs = run(
        lambda *_: start, give, rng, "Muon", options, {"adjust_lr": "adjust_lr_fn"}, MATRICES, np.float32
    )
    for n in ours:
        moved, expected = ours[n].value - before[n], theirs[n].detach().numpy() - before[n]
        # PyTorch iterates in bfloat16, of 8 bits.
        assert np.linalg.norm(moved - expected) < 0.03 * np.linalg.norm(expected)


def test_layout_makes_rows_of_columns(give, rng):
    """A linear layer's weight is (in, out) here and (out, in) there; row-wise rules must not notice."""
    nn = pytest.importorskip("allgrad.nn.parameter", reason="layers are not there yet")
    weight = rng.normal(size=(8, 3))
    for name, options in [("Muon", {"lr": 0.1}), ("Adafactor", {"lr": 0.1})]:
        ours = nn.Parameter(weight.T.copy(), layout=nn.TRANSPOSED)
        plain = nn.Parameter(weight)
        for leaf, gradient in ((ours, weight.T + 1), (plain, weight + 1)):
            optimizer = getattr(optim, name)([leaf], **options)
            give({"leaf": leaf}, {"leaf": gradient})
            optimizer.step()
        np.testing.assert_allclose(ours.value.T, plain.value, rtol=1e-12)
