"""Batch norm against PyTorch, its statistics and buffers, and statistics across workers."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.autodiff.errors import NoRuleError
from allgrad.nn.batch_statistics import statistics
from allgrad.nn.batched_workers import ONE_WORKER
from allgrad.nn.batchnorm import batch_norm

REASON = "PyTorch is what it is compared with"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def first(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, -1, 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"eps": 1e-2, "momentum": 0.3}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}],
)
@pytest.mark.parametrize("shape", [(9, 4), (5, 7, 4), (3, 6, 5, 4)])
def test_equals_torch(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    kind = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    ours, theirs = getattr(nn, kind)(4, **options), getattr(torch.nn, kind)(4, **options)
    x = (normal(*shape) * 3 + 2).astype(np.float32)
    check_against_torch(ours, theirs, x, to_torch=first, steps=10 if ours.weight is not None else 0)
    # Evaluation, with what training left.
    y = ours.eval()(x)
    expected = theirs.eval()(torch.tensor(np.ascontiguousarray(first(x)))).detach().numpy()
    np.testing.assert_allclose(first(y.value), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("training", [True, False])
def test_activation_inside_is_activation_behind(activation: str, training: bool) -> None:
    x = normal(300, 3, 3, 8).astype(np.float32)  # two blocks
    results = []
    for model in (
        nn.BatchNorm2d(8, activation=activation),
        nn.Sequential(nn.BatchNorm2d(8), nn.Activation(activation)),
    ):
        t = ag.tensor(x, requires_grad=True)
        y = model.train(training)(t)
        np.sum(y * y * y).backward()
        results.append([y.value, t.grad, *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("training", [True, False])
def test_a_skip_connection_inside_is_one_behind(activation: str | None, training: bool) -> None:
    x, residual = (normal(300, 3, 3, 8, seed=s).astype(np.float32) for s in (0, 1))
    results = []
    for inside in (True, False):
        layer = nn.BatchNorm2d(8, activation=activation if inside else None).train(training)
        tx, tp = ag.tensor(x, requires_grad=True), ag.tensor(residual, requires_grad=True)
        y = layer(tx, tp) if inside else layer(tx) + tp
        y = nn.Activation(activation)(y) if activation and not inside else y
        np.sum(y * y * y).backward()
        results.append([y.value, tx.grad, tp.grad, layer.weight.grad, layer.bias.grad])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"a residual of the input's dtype and shape.*\(2, 8\)"):
        nn.BatchNorm2d(8)(x, np.zeros((2, 8), np.float32))


@pytest.mark.parametrize("activation", [None, "tanh"])
def test_higher_derivatives(activation: str | None) -> None:
    layer = nn.BatchNorm1d(3, activation=activation, dtype=np.float64)

    def f(x: Any, w: Any, b: Any) -> Any:
        mean, variance, count = statistics(x.value if isinstance(x, ag.Tensor) else x)
        statics = {"mean": mean, "variance": variance, "count": count, "workers": ONE_WORKER, "reduce": None}
        return batch_norm(x, w, b, x * w, eps=1e-3, activation=layer.activation, **statics)

    check_derivatives(f, [normal(6, 3), normal(3, seed=1), normal(3, seed=2)])


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1e4, 1.0), (100003.3, 0.03)])
def test_a_large_mean_costs_no_digits(mean: float, std: float) -> None:
    """float32's numbers lie 0.008 apart at 100,000: the mean itself must not be rounded to one of them."""
    x = (normal(4000, 2) * std + mean).astype(np.float32)
    (got_mean,), (variance,), count = statistics(x)
    np.testing.assert_allclose(got_mean, x.astype(float).mean(0), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(variance, x.astype(float).var(0), rtol=1e-5)
    assert count == 4000
    results = []
    for dtype in (np.float32, np.float64):
        layer = nn.BatchNorm1d(2, eps=1e-6, dtype=dtype)
        t = ag.tensor(x.astype(dtype), requires_grad=True)
        y = layer(t)
        np.sum(y * y * y).backward()
        results.append([y.value, t.grad * std, layer.weight.grad / 4000, layer.bias.grad / 4000])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_statistics_move_in_training_only_and_not_in_recomputation() -> None:
    layer = nn.BatchNorm1d(2)
    x = ag.tensor(normal(8, 2).astype(np.float32), requires_grad=True)
    y = ag.checkpoint(layer)(x)
    np.sum(y * y).backward()
    assert layer.num_batches_tracked == 1
    once = layer.running_mean.copy()
    np.testing.assert_allclose(once, 0.1 * x.value.mean(0), rtol=1e-5)
    layer.eval()(x)
    np.testing.assert_array_equal(layer.running_mean, once)
    assert layer.num_batches_tracked == 1


def test_buffers_declare_how_workers_merge_them() -> None:
    rules = nn.BatchNorm2d(3).buffer_rules()
    assert {name: rule.merge for name, rule in rules.items()} == {
        "running_mean": "mean",
        "running_var": "mean",
        "num_batches_tracked": "last",
    }
    assert not nn.BatchNorm2d(3, track_running_stats=False).buffer_rules()


def run_workers(batches: list[np.ndarray], make: Any) -> list[Any]:
    """Each batch through a copy of one layer, in a thread, with sums over all of them; outputs, gradients, layers."""
    barrier = threading.Barrier(len(batches))
    board: list[Any] = [None] * len(batches)
    results: list[Any] = [None] * len(batches)

    def work(me: int) -> None:
        def reduce(array: np.ndarray) -> np.ndarray:
            assert array.dtype == np.float64
            assert array.ndim == 1
            board[me] = array
            barrier.wait(300)
            total = np.sum(board, axis=0)
            barrier.wait(300)
            return total

        layer = make()
        with nn.cross_worker_sum(reduce):
            x = ag.tensor(batches[me], requires_grad=True)
            y = layer(x)
            np.sum(y * y * y).backward()
        results[me] = (y.value, x.grad, layer)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


@pytest.mark.parametrize("cuts", [[4], [2, 7], [1, 2, 3]])
def test_sync_over_workers_equals_one_large_batch(cuts: list[int]) -> None:
    x = (normal(10, 3, 3, 2) * 2 + 5).astype(np.float32)
    batches = np.split(x, cuts)
    results = run_workers(batches, lambda: nn.SyncBatchNorm(2, activation="relu"))
    whole = nn.BatchNorm2d(2, activation="relu")
    t = ag.tensor(x, requires_grad=True)
    y = whole(t)
    np.sum(y * y * y).backward()
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(np.concatenate([r[0] for r in results]), y.value, **close)
    np.testing.assert_allclose(np.concatenate([r[1] for r in results]), t.grad, **close)
    np.testing.assert_allclose(sum(r[2].weight.grad for r in results), whole.weight.grad, rtol=1e-5)
    np.testing.assert_allclose(sum(r[2].bias.grad for r in results), whole.bias.grad, rtol=1e-5)
    for r in results:
        np.testing.assert_allclose(r[2].running_var, whole.running_var, rtol=1e-6)
        assert r[2].running_mean.tobytes() == results[0][2].running_mean.tobytes()


def test_sync_alone_is_batch_norm_and_evaluation_does_not_reduce() -> None:
    x = normal(6, 3).astype(np.float32)
    np.testing.assert_array_equal(nn.SyncBatchNorm(3)(x).value, nn.BatchNorm1d(3)(x).value)

    def reduce(array: np.ndarray) -> np.ndarray:
        raise AssertionError("called in evaluation")

    with nn.cross_worker_sum(reduce):
        nn.SyncBatchNorm(3).eval()(x)
        nn.SyncBatchNorm(3, track_running_stats=False).eval()(x)


def test_second_order_across_workers_is_a_clear_error() -> None:
    layer = nn.SyncBatchNorm(3)
    x = normal(6, 3).astype(np.float32)
    with nn.cross_worker_sum(lambda a: a), pytest.raises(NoRuleError, match="SyncBatchNorm"):
        ag.jvp(layer, (x,), (x,))


def test_gradients_go_into_bound_memory() -> None:
    layer = nn.BatchNorm1d(3)
    memory = np.full((2, 3), np.nan, np.float32)
    layer.weight.bind(grad=memory[0])
    layer.bias.bind(grad=memory[1])
    y = layer(normal(6, 3).astype(np.float32))
    np.sum(y * y * y + y).backward()
    np.testing.assert_allclose(memory[1], (3 * y.value**2 + 1).sum(0), rtol=1e-5)
    assert np.isfinite(memory).all()


@pytest.mark.parametrize(
    ("layer", "shape", "dtype", "error", "words"),
    [
        (
            nn.BatchNorm2d(3),
            (2, 3, 4, 4),
            "f4",
            ValueError,
            r"'norm'.*\(batch, height, width, 3\).*\(2, 3, 4, 4\).*moveaxis",
        ),
        (
            nn.BatchNorm1d(3),
            (2, 4, 4, 3),
            "f4",
            ValueError,
            r"'norm'.*\(batch, 3\) or \(batch, length, 3\).*\(2, 4, 4, 3\)",
        ),
        (nn.BatchNorm1d(3), (5, 3), "f8", TypeError, r"'norm'.*float32.*float64"),
        (nn.BatchNorm1d(3), (1, 3), "f4", ValueError, r"'norm'.*more than one value.*\(1, 3\)"),
    ],
)
def test_bad_input(layer: nn.Module, shape: Any, dtype: str, error: type[Exception], words: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.norm = layer

        def forward(self, x: Any) -> Any:
            return self.norm(x)

    with pytest.raises(error, match=words):
        Net()(np.zeros(shape, dtype))
