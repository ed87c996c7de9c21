"""ResNet-18 against the same network in PyTorch, with torchvision's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers import check_against_torch

from allgrad import nn

WIDTHS = (16, 16, 32, 32)


def twin(torch: Any) -> Any:
    tn = torch.nn

    class Block(tn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, inner: int, outer: int, stride: int) -> None:
            super().__init__()
            self.conv1 = tn.Conv2d(inner, outer, 3, stride, 1, bias=False)
            self.bn1 = tn.BatchNorm2d(outer)
            self.conv2 = tn.Conv2d(outer, outer, 3, 1, 1, bias=False)
            self.bn2 = tn.BatchNorm2d(outer)
            self.downsample = None
            if stride != 1 or inner != outer:
                self.downsample = tn.Sequential(tn.Conv2d(inner, outer, 1, stride, bias=False), tn.BatchNorm2d(outer))

        def forward(self, x: Any) -> Any:
            past = x if self.downsample is None else self.downsample(x)
            return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + past)

    class Twin(tn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = tn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False), tn.BatchNorm2d(WIDTHS[0])
            inner = WIDTHS[0]
            for i, width in enumerate(WIDTHS, start=1):
                blocks = (Block(inner, width, 2 if i > 1 else 1), Block(width, width, 1))
                setattr(self, f"layer{i}", tn.Sequential(*blocks))
                inner = width
            self.fc = tn.Linear(inner, 10)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.bn1(self.conv1(x)))
            for i in range(1, 5):
                x = getattr(self, f"layer{i}")(x)
            return self.fc(x.mean((2, 3)))

    return Twin()


def first(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, -1, 1) if a.ndim == 4 else a


@pytest.mark.parametrize("side", [32, 28])
def test_equals_torch_over_three_steps(side: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    torch.manual_seed(1)  # weights with which no ReLU's argument is so near 0 that rounding decides
    ours, theirs = nn.models.ResNet18(10, widths=WIDTHS, rng=0), twin(torch)
    x = np.random.default_rng(0).standard_normal((6, side, side, 3)).astype(np.float32)
    check_against_torch(ours, theirs, x, to_torch=first, steps=3, rtol=1e-3, atol=2e-4, lr=0.01)
    expected = theirs.eval()(torch.tensor(np.ascontiguousarray(first(x)))).detach().numpy()
    np.testing.assert_allclose(ours.eval()(x).value, expected, rtol=1e-3, atol=1e-3)


def test_full_size_and_one_channel() -> None:
    model = nn.models.ResNet18(10, channels=1, rng=0)
    assert model.parameter_count() == 11_172_810  # ResNet-18's with a 3x3 first layer of one channel and ten classes
    assert nn.models.ResNet18(5, widths=(2, 2, 2, 2), channels=1, rng=0)(np.ones((2, 28, 28), np.float32)).shape == (
        2,
        5,
    )


def test_sync_uses_sync_batch_norm_under_the_same_names() -> None:
    plain, sync = (nn.models.ResNet18(5, widths=(2, 2, 2, 2), sync=s, rng=0) for s in (False, True))
    assert isinstance(sync.bn1, nn.SyncBatchNorm)
    assert list(plain.state_dict()) == list(sync.state_dict())
