"""Losses against PyTorch, their terms, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.nn.errors import IndexRangeError

RNG = np.random.default_rng(0)
LOGITS = (RNG.standard_normal((8, 5)) * 4).astype(np.float32)
LABELS = RNG.integers(0, 5, 8)
SOFT = RNG.dirichlet(np.ones(5), 8).astype(np.float32)
TARGET = RNG.standard_normal((8, 5)).astype(np.float32)
SOME = np.where(np.arange(8) % 3 == 0, -1, LABELS)


def logarithms(x):
    return nn.softmax.log_softmax(x)


CASES = [
    ("CrossEntropyLoss", {}, {}, LOGITS, LABELS),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}, LOGITS, LABELS),
    ("CrossEntropyLoss", {"ignore_index": -1}, {"ignore_index": -1}, LOGITS, SOME),
    (
        "CrossEntropyLoss",
        {"ignore_index": -1, "label_smoothing": 0.3},
        {"ignore_index": -1, "label_smoothing": 0.3},
        LOGITS,
        SOME,
    ),
    ("CrossEntropyLoss", {}, {}, LOGITS, SOFT),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, {"label_smoothing": 0.1}, LOGITS, SOFT),
    ("MSELoss", {}, {}, LOGITS, TARGET),
    ("L1Loss", {}, {}, LOGITS, TARGET),
    ("HuberLoss", {"delta": 2.0}, {"delta": 2.0}, LOGITS, TARGET),
    ("BCEWithLogitsLoss", {}, {}, LOGITS * 10, SOFT),
    (
        "BCEWithLogitsLoss",
        {"positive_weight": [1.0, 2.0, 0.5, 3.0, 1.0]},
        {"pos_weight": [1.0, 2.0, 0.5, 3.0, 1.0]},
        LOGITS,
        SOFT,
    ),
    ("NLLLoss", {"ignore_index": -1}, {"ignore_index": -1}, logarithms(LOGITS).value, SOME),
    ("KLDivLoss", {}, {"reduction": "batchmean"}, logarithms(LOGITS).value, np.where(SOFT > 0.5, 0, SOFT)),
    ("KLDivLoss", {}, {"reduction": "batchmean"}, logarithms(LOGITS).value, SOFT),
]
IDS = [f"{name}-{options}-{target.dtype}" for name, options, _, _, target in CASES]


@pytest.mark.parametrize(("name", "options", "theirs", "x", "target"), CASES, ids=IDS)
def test_equals_torch(name: str, options: dict, theirs: dict, x: np.ndarray, target: np.ndarray) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    if "pos_weight" in theirs:
        theirs = {"pos_weight": torch.tensor(theirs["pos_weight"])}
    ours, loss = ag.tensor(x, requires_grad=True), getattr(nn, name)(**options)
    y = loss(ours, target)
    y.backward()
    xt = torch.tensor(x, requires_grad=True)
    yt = getattr(torch.nn, name)(**theirs)(xt, torch.tensor(target))
    yt.backward()
    assert y.shape == ()
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.value, yt.detach().numpy(), rtol=2e-6)
    np.testing.assert_allclose(ours.grad, xt.grad.numpy(), rtol=1e-5, atol=1e-7)
    total, count = loss.terms(ours, target)
    np.testing.assert_allclose(total.value / count, y.value, rtol=2e-6)


@pytest.mark.parametrize(("name", "options", "theirs", "x", "target"), CASES, ids=IDS)
def test_derivatives(name: str, options: dict, theirs: dict, x: np.ndarray, target: np.ndarray) -> None:
    loss = getattr(nn, name)(**options)
    target = target.astype(np.float64) if target.dtype.kind == "f" else target
    check_derivatives(lambda x: loss(x, target), [x / 5])
    check_derivatives(lambda x: loss.terms(x * 2, target)[0] ** 2, [x / 20])


def test_soft_labels_have_a_gradient_too() -> None:
    check_derivatives(lambda x, t: nn.CrossEntropyLoss(label_smoothing=0.2)(x, t), [LOGITS, SOFT])


def test_leading_axes_are_rows() -> None:
    loss = nn.CrossEntropyLoss()
    one = loss(LOGITS, LABELS).item()
    assert loss(LOGITS.reshape(2, 4, 5), LABELS.reshape(2, 4)).item() == one
    assert loss(LOGITS.reshape(2, 4, 5), SOFT.reshape(2, 4, 5)).item() == loss(LOGITS, SOFT).item()
    assert nn.NLLLoss()(LOGITS.reshape(2, 4, 5), LABELS.reshape(2, 4)).item() == nn.NLLLoss()(LOGITS, LABELS).item()


def test_nothing_counts() -> None:
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss()):
        x = ag.tensor(LOGITS, requires_grad=True)
        y = loss(x, np.full(8, -100))
        y.backward()
        assert y.item() == 0
        assert not x.grad.any()
        assert loss.terms(x, np.full(8, -100))[1] == 0


def test_extreme_logits_stay_finite() -> None:
    x = ag.tensor(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), requires_grad=True)
    for loss, target in (
        (nn.CrossEntropyLoss(), np.array([1, 1])),
        (nn.BCEWithLogitsLoss(), np.ones((2, 2), np.float32)),
    ):
        x.zero_grad()
        y = loss(x, target)
        y.backward()
        assert np.isfinite(y.item())
        assert np.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("loss", "x", "target", "message"),
    [
        (nn.CrossEntropyLoss(), LOGITS, np.zeros(7, int), r"logits \(8, 5\) and labels int64 \(7,\)"),
        (nn.CrossEntropyLoss(), LOGITS, np.full(8, 5), "label 5 at position .* is out of range for 5 classes"),
        (nn.CrossEntropyLoss(), LOGITS, SOFT[:, :4], r"\(8, 5\) and \(8, 4\)"),
        (nn.MSELoss(), LOGITS, TARGET[:, :1], r"MSELoss: .*\(8, 5\) and \(8, 1\)"),
        (nn.MSELoss(), LOGITS, LABELS[:, None] * np.ones((1, 5), int), "the target must be a float array"),
        (nn.NLLLoss(), LOGITS, np.full(8, 7), "is out of range for 5 classes"),
        (nn.NLLLoss(), LOGITS, SOFT[:, 0], "integer labels"),
    ],
)
def test_bad_input_is_named(loss, x, target, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        loss(x, target)


def test_bad_options() -> None:
    for make in (
        lambda: nn.CrossEntropyLoss(label_smoothing=2),
        lambda: nn.HuberLoss(0),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()


@pytest.mark.parametrize("kind", ["uint8", "int32", "uint64"])
def test_labels_of_any_integer_dtype(kind) -> None:
    labels = np.array([0, 1, 2, 3, 4, 0, 1, 2])
    loss = nn.CrossEntropyLoss(ignore_index=2)
    assert loss(LOGITS, labels.astype(kind)).item() == loss(LOGITS, labels).item()


def test_a_label_too_large_for_int64_is_not_the_ignored_one() -> None:
    labels = np.array([0, 1, 2, 3, 4, 0, 1, 2**64 - 100], np.uint64)
    with pytest.raises(IndexRangeError, match="label 18446744073709551516 at position"):
        nn.CrossEntropyLoss()(LOGITS, labels)
