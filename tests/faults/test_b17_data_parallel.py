"""One-line changes of `parallel` and `comm` that no test noticed.

Terms remembered across two losses of one replica; SyncBatchNorm's error when workers run different layers; the order of
buckets not restored; every failing rank printing at once; a user's mistake on one rank not told. (Checks advanced out of
order: tests/comm/test_pipeline.py.)
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest

from allgrad import nn, parallel
from allgrad.comm import World
from allgrad.parallel.worker_threads import WorkerThreads


def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 4), dtype=np.float32), rng.standard_normal((8, 2), dtype=np.float32)


class Loss:
    """A loss with one term, under a name of its own."""

    def __init__(self, model, name):
        self.model, self.name = model, name

    def counts(self, part):
        return {self.name: float(len(part[0]))}

    def __call__(self, part):
        return {self.name: np.sum((self.model(part[0]) - part[1]) ** 2)}


def test_each_loss_of_a_replica_has_its_own_terms() -> None:
    model = nn.Linear(4, 2, rng=0)
    replica = parallel.DataParallel(model, World(), virtual_workers=2)
    first, second = Loss(model, "first"), Loss(model, "second")
    for step, loss in enumerate((first, second, first)):
        result = replica.step(loss, replica.split(batch()), step)
        assert list(result.terms) == list(result.counts) == [loss.name]
        assert model.weight.grad is not None


def threads(*contributions: list[int]) -> None:
    """Workers that contribute vectors of these lengths, one after another; a worker without any has no samples."""
    workers = WorkerThreads(World(), len(contributions), lambda index: nullcontext())
    tasks = [
        lambda lengths=lengths: [workers.all_reduce(np.ones(length)) for length in lengths] for lengths in contributions
    ]
    workers.run(tasks, [not lengths for lengths in contributions])


@pytest.mark.parametrize("contributions", [([3, 3], [3]), ([3], [3, 3]), ([3], [4]), ([2, 3], [], [2])])
def test_workers_that_run_different_layers_are_an_error(contributions) -> None:
    with pytest.raises(RuntimeError, match=r"do not run the same layers.*workers of rank 0 gave another number"):
        threads(*contributions)


def test_workers_without_samples_may_run_none() -> None:
    threads([3, 2], [], [3, 2])


class Sometimes(nn.Module):
    """Normalises a part only if its first number is positive."""

    def __init__(self):
        self.norm, self.head = nn.SyncBatchNorm(4), nn.Linear(4, 2, rng=0)

    def forward(self, x):
        return self.head(self.norm(x) if x[0, 0] > 0 else x)


def test_a_layer_that_only_some_workers_run_is_an_error() -> None:
    model = Sometimes()
    replica = parallel.DataParallel(model, World(), virtual_workers=2)
    x, y = batch()
    x[0, 0], x[4, 0] = 1.0, -1.0
    with pytest.raises(RuntimeError, match="do not run the same layers"):
        replica.step(lambda part: nn.MSELoss()(model(part[0]), part[1]), replica.split((x, y)), 0)
    x[4, 0] = 1.0
    replica.step(lambda part: nn.MSELoss()(model(part[0]), part[1]), replica.split((x, y)), 1)


class Backwards(nn.Module):
    """Uses its layers in the opposite order of their registration."""

    def __init__(self):
        self.last, self.first = nn.Linear(4, 2, rng=0), nn.Linear(4, 4, rng=1)

    def forward(self, x):
        return self.last(self.first(x))


def test_the_order_of_buckets_is_restored() -> None:
    def replica():
        made = parallel.DataParallel(Backwards(), World(), virtual_workers=2, bucket_mb=1e-5, first_bucket_mb=1e-5)
        made.reducer.order_agreed = False  # as in a job of several ranks
        return made

    first, second = replica(), replica()
    first.step(lambda part: nn.MSELoss()(first.model(part[0]), part[1]), first.split(batch()), 0)
    state = first.reducer.state_dict()
    assert state["agreed"]
    assert state["order"] != second.reducer.order
    second.reducer.load_state_dict(state)
    assert second.reducer.state_dict() == state
    state["order"].reverse()
    assert first.reducer.state_dict()["order"] == second.reducer.state_dict()["order"] != state["order"]

    posted = []
    post = second.exchange.post
    second.exchange.post = lambda gradients, **rest: (posted.append(gradients.bucket.index), post(gradients, **rest))
    second.step(lambda part: nn.MSELoss()(second.model(part[0]), part[1]), second.split(batch()), 1)
    assert posted == second.reducer.order


def test_of_several_failing_ranks_the_lowest_is_first() -> None:
    """A higher rank waits a moment before it prints; it is aborted meanwhile."""
    program = """
import os, sys
from allgrad.comm import failure

class Fake:
    rank, size, host, on_failure = {rank}, 99, "here", None
    def abort(self, code):
        os._exit(code)

failure.time.sleep = lambda seconds: (print(seconds, file=sys.stderr), os._exit(9))
failure.end(Fake(), "the cause")
"""

    def waits(rank: int) -> float:
        run = subprocess.run(
            [sys.executable, "-c", program.format(rank=rank)], capture_output=True, text=True, timeout=300
        )
        return float(run.stderr)

    first, second, last = waits(0), waits(1), waits(98)
    assert first == 0 < second < last <= 0.5


def mistaken():
    import sys
    from types import ModuleType

    from allgrad import comm
    from allgrad.cli import main as cli
    from allgrad.errors import AllgradError

    world = comm.init()

    def run(arguments):
        if world.rank == 1:
            raise AllgradError("the disk of this node is full")
        world.barrier()
        return 0

    module = ModuleType("allgrad.cli.probe_for_test", "A test's command.")
    module.configure, module.run = (lambda parser: None), run
    sys.modules["allgrad.cli.probe_for_test"] = module
    cli.COMMANDS["probe_for_test"] = "a test's command"
    cli.PARALLEL = (*cli.PARALLEL, "probe_for_test")
    sys.exit(cli.main(["probe_for_test"]))


def test_a_users_mistake_on_one_rank_is_told(mpirun) -> None:
    job = mpirun(mistaken, 3, check=False)
    assert job.code != 0
    assert "rank 1 of 3" in job.stderr
    assert "the disk of this node is full" in job.stderr
