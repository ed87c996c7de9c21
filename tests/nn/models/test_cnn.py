"""The CNN against the same network in PyTorch, and its files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers import check_against_torch

import allgrad as ag
from allgrad import nn

REASON = "PyTorch is what it is compared with"


def twin(torch: Any, image: tuple[int, int, int] = (28, 28, 1)) -> Any:
    class Twin(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            h, w, c = image
            self.convs = torch.nn.ModuleList(
                [torch.nn.Conv2d(c, 32, 3, padding=1), torch.nn.Conv2d(32, 64, 3, padding=1)]
            )
            self.hidden = torch.nn.Linear(64 * (h // 2) * (w // 2), 128)
            self.head = torch.nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.convs[1](torch.relu(self.convs[0](x))))
            x = torch.flatten(torch.nn.functional.max_pool2d(x, 2), 1)
            return self.head(torch.relu(self.hidden(x)))

    return Twin()


@pytest.mark.parametrize("image", [(28, 28, 1), (14, 10, 3)])
def test_equals_torch_over_ten_steps(image: tuple[int, int, int]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    # Weights with which no two entries of a window are so near, and no ReLU's argument so near 0, that rounding decides.
    torch.manual_seed(2)
    x = np.random.default_rng(0).standard_normal((8, *image)).astype(np.float32)
    check_against_torch(
        nn.models.CNN(image, rng=0),
        twin(torch, image),
        x,
        to_torch=lambda a: np.moveaxis(a, -1, 1) if a.ndim == 4 else a,
        rtol=1e-4,
        atol=1e-5,
    )


def test_safetensors_go_both_ways_strictly(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    from safetensors.numpy import load_file, save_file
    from safetensors.torch import load_file as load_theirs
    from safetensors.torch import save_file as save_theirs

    ours, theirs = nn.models.CNN(rng=0), twin(torch)
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_theirs(tmp_path / "ours.safetensors"), strict=True)
    x = np.random.default_rng(0).standard_normal((2, 28, 28)).astype(np.float32)
    expected = theirs(torch.tensor(x)[:, None]).detach().numpy()
    np.testing.assert_allclose(ours(x).value, expected, rtol=1e-4, atol=1e-5)
    save_theirs(twin(torch).state_dict(), tmp_path / "theirs.safetensors")
    result = ours.load_state_dict(load_file(tmp_path / "theirs.safetensors"), strict=True)
    assert result == ([], [])


def test_two_runs_of_ten_steps_give_the_same_bits() -> None:
    def run(offset: int) -> bytes:
        model = nn.models.CNN(channels=(16, 16), pool=(2, 2), hidden=16, rng=1)
        memory = np.zeros(2 * 28 * 28 * 8 + offset, np.float32)[offset:]  # another address
        x = memory[: 8 * 28 * 28].reshape(8, 28, 28, 1)
        x[...] = np.random.default_rng(0).standard_normal(x.shape)
        for _ in range(10):
            model.zero_grad()
            y = model(x)
            np.mean(y * y).backward()
            for p in model.parameters():
                p.assign(p.value - np.float32(0.1) * p.grad)
        return b"".join(p.value.tobytes() for p in model.parameters())

    assert run(0) == run(0) == run(1) == run(3)


def test_images_of_another_shape_are_named() -> None:
    with pytest.raises(ValueError, match=r"CNN.*28, 28, 1.*\(2, 32, 32, 3\)"):
        nn.models.CNN(rng=0)(np.zeros((2, 32, 32, 3), np.float32))
    with pytest.raises(ValueError, match="one entry"):
        nn.models.CNN(channels=(8,), rng=0)


def test_forward_mode_and_hessian_vector_products() -> None:
    model = nn.models.CNN((6, 6, 1), 3, channels=(2, 3), hidden=4, rng=0, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 1))

    def loss(x: Any) -> Any:
        y = model(x)
        return np.sum(y * y)

    v = np.random.default_rng(1).standard_normal(x.shape)
    h = 1e-5
    expected = (ag.grad(loss)(x + h * v) - ag.grad(loss)(x - h * v)) / (2 * h)
    np.testing.assert_allclose(ag.hvp(loss, x, v).value, expected.value, rtol=1e-5, atol=1e-7)
