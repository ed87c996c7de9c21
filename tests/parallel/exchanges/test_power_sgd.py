"""PowerSGD against a plain statement of the paper's algorithms, and against PyTorch's hook."""

import subprocess
import sys

import numpy as np
import pytest
from given_gradients import SHAPES, Given

from allgrad.errors import OptionError
from allgrad.parallel.exchanges import PowerSGDExchange
from allgrad.parallel.exchanges.power_sgd import orthogonal


def plain_orthogonal(p):
    """Gram-Schmidt as it is in textbooks."""
    columns = []
    for column in p.T:
        for one in columns:
            column = column - (one @ column) * one
        columns.append(column / np.linalg.norm(column))
    return np.array(columns).T


class Plain:
    """Algorithms 1 and 2 of the paper for one matrix, with means over the workers as it has them."""

    def __init__(self, q):
        self.q, self.errors = q, {}

    def step(self, gradients):
        deltas = [g + self.errors.get(w, 0) for w, g in enumerate(gradients)]
        p = plain_orthogonal(np.mean([m @ self.q for m in deltas], axis=0))
        self.q = np.mean([m.T @ p for m in deltas], axis=0)
        update = p @ self.q.T
        self.errors = {w: m - update for w, m in enumerate(deltas)}
        return update


@pytest.mark.parametrize("rank", [1, 2])
def test_equals_the_paper_step_by_step(rank):
    ours = Given({"name": "power_sgd", "rank": rank})
    factors = ours.replica.exchange.factors
    assert set(factors) == {"w", "kernel"} | ({"thin"} if rank == 1 else set())  # the others would not become smaller
    plain = {name: Plain(q) for name, q in factors.items()}
    for step in range(6):
        rows = ours.draw(step)
        found = ours.step(rows)
        for name, shape in SHAPES.items():
            matrices = rows[name].reshape(len(rows[name]), -1, shape[-1])
            expected = plain[name].step(matrices) if name in plain else matrices.mean(0)
            np.testing.assert_allclose(found[name].reshape(expected.shape), expected, rtol=1e-9, atol=1e-12)
    for name, each in plain.items():
        for w, error in each.errors.items():
            mine = ours.replica.exchange.errors[w][name].reshape(error.shape)
            np.testing.assert_allclose(mine * len(each.errors), error, rtol=1e-8, atol=1e-11)


PYTORCH = """
import os, sys
import numpy as np, torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as hook

given = np.load(sys.argv[1])
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
state = hook.PowerSGDState(
    None, matrix_approximation_rank=2, start_powerSGD_iter=2, min_compression_rate=0.5, orthogonalization_epsilon=1e-8
)
layer = torch.nn.Linear(7, 12, bias=False)
model = torch.nn.parallel.DistributedDataParallel(layer)
model.register_comm_hook(state, hook.powerSGD_hook)
x, gradients = torch.eye(7), []
for step, rows in enumerate(given["rows"]):
    model.zero_grad()
    if step == 2:  # it begins with steps in which it compresses nothing
        state.q_memory_dict[0] = torch.from_numpy(given["q"]).reshape(-1).clone()
        state.p_memory_dict[0] = torch.empty(12 * 2)
    (model(x) * torch.from_numpy(rows.T.copy())).sum().backward()
    gradients.append(layer.weight.grad.numpy().copy())
np.save(sys.argv[2], gradients)
os._exit(0)  # freeing the model can wait for ever for a thread of Gloo that waits for Python's lock
"""


def test_equals_the_hook_of_pytorch(tmp_path):
    """In one process of its own, where PyTorch's worker is the only one: its P, Q and error feedback, from the same first Q."""
    pytest.importorskip("torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook", reason="compares with PyTorch's")
    ours = Given({"name": "power_sgd", "rank": 2}, workers=1, shapes={"w": (12, 7)}, dtype=np.float32)
    draws, given, found = [ours.draw(step) for step in range(7)], tmp_path / "given.npz", tmp_path / "found.npy"
    np.savez(given, q=ours.replica.exchange.factors["w"], rows=[rows["w"][0] for rows in draws])
    subprocess.run([sys.executable, "-c", PYTORCH, given, found], check=True, timeout=300)
    expected = np.load(found)
    assert len(expected) == len(draws)
    for step, rows in enumerate(draws[2:], start=2):
        np.testing.assert_allclose(ours.step(rows)["w"], expected[step], rtol=2e-4, atol=2e-5)


def test_before_it_starts_gradients_are_exact():
    ours, exact = Given({"name": "power_sgd", "start_after": 2}), Given("exact")
    for step in range(3):
        rows = ours.draw(step)
        found, expected = ours.step(rows), exact.step(rows)
        same = [found[name].tobytes() == expected[name].tobytes() for name in SHAPES]
        assert all(same) == (step < 2)


def test_a_step_that_is_not_finite_changes_nothing_that_is_kept():
    ours, other = Given("power_sgd"), Given("power_sgd")
    first, bad, last = ours.draw(0), ours.draw(1), ours.draw(2)
    bad["w"][2, 3, 3] = np.nan
    ours.step(first)
    assert not np.isfinite(ours.step(bad)["w"]).all()
    other.step(first)
    for (name, gradient), expected in zip(ours.step(last).items(), other.step(last).values(), strict=True):
        np.testing.assert_array_equal(gradient, expected, err_msg=name)


def test_a_matrix_of_lower_rank_keeps_orthonormal_columns_where_it_has_any():
    q = orthogonal(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))
    np.testing.assert_allclose(q.T @ q, np.diag([1.0, 0.0, 1.0]), atol=1e-6)


def test_what_is_out_of_range_is_refused():
    for wrong in ({"rank": 0}, {"start_after": -1}, {"per": "host"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            PowerSGDExchange(**wrong)
