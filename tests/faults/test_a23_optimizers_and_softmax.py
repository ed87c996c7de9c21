"""One-line changes that no test noticed: a softmax that overflows between 60 and 600, a stale plan after `load_state_dict`, an
exchange of averaged weights that graphs do not notice, Adafactor's smallest denominator, and clipping of tiny gradients."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import kernels, nn, optim
from allgrad.autodiff.errors import SavedArrayError


@pytest.fixture(params=["numpy", "numba"])
def any_kernels(request):
    kernels.use(request.param)
    yield
    kernels.use(None)


@pytest.mark.parametrize("size", [80.0, 95.0, 300.0, 590.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_moderately_large_entries(any_kernels, size, dtype) -> None:
    x = np.array([[size, size, -size], [-size, -size, -size], [size, 0, 0]], dtype)
    y = nn.Softmax()(x).value
    causal = kernels.active().causal_softmax_forward(x)
    losses, _ = kernels.active().cross_entropy_forward(x, np.array([0, 1, 0]))
    np.testing.assert_allclose(y, [[0.5, 0.5, 0], [1 / 3] * 3, [1, 0, 0]], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(causal, [[1, 0, 0], [0.5, 0.5, 0], [1, 0, 0]], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(losses, np.log([2, 3, 1]), rtol=1e-6, atol=1e-30)


def test_after_loading_a_state_parameters_step_by_their_own_counts() -> None:
    """The optimizer that loads has stepped already, so it has planned its runs."""

    def make():
        leaves = [ag.tensor(np.ones(3), requires_grad=True) for _ in range(2)]
        return leaves, optim.Adam([("a", leaves[0]), ("b", leaves[1])], lr=0.1)

    def step(leaves, optimizer, **options):
        optimizer.zero_grad()
        np.sum(leaves[0] ** 2 + leaves[1] ** 2).backward()
        optimizer.step(**options)

    saved_leaves, saved = make()
    step(saved_leaves, saved)
    step(saved_leaves, saved, unused={"b"})
    step(saved_leaves, saved, unused={"b"})
    results = []
    for stepped in (False, True):
        leaves, optimizer = make()
        if stepped:
            step(leaves, optimizer)
        for leaf, other in zip(leaves, saved_leaves, strict=True):
            leaf.assign(other.value)
        optimizer.load_state_dict(saved.state_dict())
        step(leaves, optimizer)
        results.append([leaf.tolist() for leaf in leaves])
    assert results[0] == results[1]


def test_a_graph_notices_that_averaged_weights_were_swapped_in() -> None:
    w = ag.tensor([1.0, 2.0], requires_grad=True)
    average = optim.EMA([w], 0.5)
    w.assign([3.0, 4.0])
    loss = np.sum(w * w)
    with average.swapped(), pytest.raises(SavedArrayError):
        loss.backward()
    with average.swapped():
        inside = np.sum(w * w)
    with pytest.raises(SavedArrayError):
        inside.backward()


@pytest.mark.parametrize("shape", [(4, 3), (5,)])
def test_adafactors_smallest_denominator_is_pytorchs(shape) -> None:
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=shape), rng.normal(size=shape) * 0.01
    ours, theirs = ag.tensor(start, requires_grad=True), torch.tensor(start.copy(), requires_grad=True)
    options = {"lr": 0.1, "eps": (0.3, 1e-3)}
    optimizer, other = optim.Adafactor([ours], **options), torch.optim.Adafactor([theirs], **options)
    for _ in range(3):
        optimizer.zero_grad()
        np.sum(ours * gradient).backward()
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
        other.step()
    np.testing.assert_allclose(ours.value, theirs.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("size", [1e-5, 1e-6, 3e-7])
def test_tiny_gradients_are_clipped_as_pytorch_does(size) -> None:
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    ours, theirs = ag.tensor(np.zeros(3), requires_grad=True), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    np.sum(ours * size).backward()
    theirs.grad = torch.full((3,), size, dtype=torch.float64)
    optim.clip_norm([ours], size / 4)
    torch.nn.utils.clip_grad_norm_([theirs], size / 4)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-12)
