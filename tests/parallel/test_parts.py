"""The parts of a rank's workers: one batch that is cut on demand, or parts that are joined on demand. The bits are the same."""

import gc
import sys

import numpy as np
import pytest
from replicas import digest

from allgrad import kernels, nn, optim, parallel
from allgrad.comm import World
from allgrad.comm.tree import plan_block
from allgrad.parallel.parts import Parts, SeparateParts
from allgrad.parallel.worker_gradients import WorkerGradients

portable = pytest.mark.skipif(
    not kernels.portable()[0], reason="only portable kernels give a row the same bits in any batch"
)


def test_a_part_is_cut_out_of_nested_arrays():
    x = np.arange(12.0).reshape(6, 2)
    parts = Parts({"x": x, "more": [x[:, 0], (x[:, 1], None)]}, {5: 1, 6: 0, 7: 5})
    assert list(parts) == [5, 6, 7]
    assert parts[5]["x"].tolist() == [[0, 1]]
    assert parts[6]["x"].shape == (0, 2)
    assert parts[7]["more"][0].tolist() == [2, 4, 6, 8, 10]
    assert parts[7]["more"][1][1] is None
    assert np.shares_memory(parts[7]["x"], x)
    with pytest.raises(KeyError):
        parts[4]
    assert Parts(x, {3: 6})[3] is x
    with pytest.raises(KeyError):
        Parts(x, {3: 6})[0]


def test_parts_are_joined_if_they_fit_together():
    x, y = np.arange(5.0), np.arange(5)
    whole = SeparateParts({1: (x[2:], y[2:]), 0: (x[:2], y[:2]), 2: None}).whole()
    assert [a.tolist() for a in whole] == [x.tolist(), y.tolist()]
    assert not any(a.flags.writeable for a in whole)
    for wrong in (
        {0: (x[:2],), 1: (x[2:], y[2:])},  # another number of arrays
        {0: (x[:2], y[:2]), 1: (x[2:], y[2:].astype(np.int32))},
        {0: (x[:2], y[:2]), 1: (x[2:].reshape(3, 1), y[2:])},
        {0: (x[:2], y[:1]), 1: (x[2:], y[2:])},  # arrays of unequal length
        {0: (x[:2], [1, 2]), 1: (x[2:], [3, 4])},
        {0: None, 1: (x[:0], y[:0])},
    ):
        assert SeparateParts(wrong).whole() is None
    assert Parts((x[:0],), {0: 0, 1: 0}).whole() is None


def test_counts_by_worker():
    labels = np.array([[1, -1], [-1, -1], [2, 3]])
    assert nn.batch_count(labels != -1) == 3
    assert nn.batch_size(labels) == 6
    with nn.batched_workers([1, 0, 2]):
        assert nn.batch_count(labels != -1).tolist() == [1, 0, 2]
        assert nn.batch_size(labels).tolist() == [2, 0, 4]


class Squares:
    """A loss on a batch that is a dict with a list in it."""

    rows_independent = True

    def __init__(self, model, by_worker):
        self.model, self.by_worker, self.asked = model, by_worker, []

    def counts(self, part):
        self.asked.append(len(part["x"]))
        entries = part["y"][0]
        return {"squares": nn.batch_size(entries) if self.by_worker else float(entries.size)}

    def __call__(self, part):
        return {"squares": nn.MSELoss().terms(self.model(part["x"]), part["y"][0])[0]}


def trained(kind, virtual_workers, *, by_worker=True, batched=True):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 7), np.float32), rng.standard_normal((20, 3), np.float32)
    model = nn.Sequential(nn.Linear(7, 9, activation="gelu", rng=0), nn.Dropout(0.3), nn.Linear(9, 3, rng=1))
    replica = parallel.DataParallel(model, World(), virtual_workers=virtual_workers, batched_workers=batched)
    optimizer, loss, losses = optim.AdamW(model.parameters(), lr=1e-2), Squares(model, by_worker), []
    for step, samples in enumerate((20, 13, 5)):  # of 5 samples, three of eight workers have none
        parts = replica.split({"x": x[:samples], "y": [y[:samples]]})
        losses.append(replica.step(loss, dict(parts) if kind == "separate" else parts, step).loss)
        optimizer.step()
    return digest(model, losses), loss.asked


@portable
@pytest.mark.parametrize("virtual_workers", [1, 2, 3, 8])
def test_the_bits_do_not_depend_on_how_parts_come(virtual_workers):
    expected, _ = trained("separate", virtual_workers, batched=False)
    for kind in ("whole", "separate"):
        for by_worker in (True, False):
            assert trained(kind, virtual_workers, by_worker=by_worker)[0] == expected


@portable
def test_a_loss_is_asked_for_its_counts_once_if_it_counts_by_worker():
    assert trained("whole", 4)[1] == [20, 13, 5]
    assert trained("whole", 4, by_worker=False)[1] == [20, 5, 5, 5, 5, 13, 3, 3, 3, 4, 5, 1, 1, 1, 2]


@portable
def test_no_python_function_is_called_once_per_worker():
    """A step of eight workers makes the calls of a step of two, so its time in Python does not grow with the workers."""

    def calls(virtual_workers):
        rng = np.random.default_rng(0)
        batch = {"x": rng.standard_normal((48, 7), np.float32), "y": [rng.standard_normal((48, 3), np.float32)]}
        model = nn.Sequential(nn.Linear(7, 9, activation="gelu", rng=0), nn.Dropout(0.3), nn.Linear(9, 3, rng=1))
        replica = parallel.DataParallel(model, World(), virtual_workers=virtual_workers)
        loss, parts, made = Squares(model, True), replica.split(batch), []
        replica.step(loss, parts, 0)  # compiles, and finds out what stays the same
        gc.disable()  # a collection calls whoever asked to be told
        sys.setprofile(lambda frame, event, _: made.append(frame.f_code.co_qualname) if event == "call" else None)
        try:
            replica.step(loss, parts, 1)
        finally:
            sys.setprofile(None)
            gc.enable()
        return made

    assert calls(8) == calls(2)


@pytest.mark.parametrize("separate", [False, True])
def test_a_rank_with_several_partial_sums_adds_up_each_of_them(separate):
    """Workers 1 to 6 of seven, as one contribution of all workers: the nodes (4, 5, 6), (2, 3) and 1."""
    plan = plan_block(range(1, 7), 7, separate)
    views = [np.empty((2, 3), np.float32) for _ in range(plan.arrays)]
    gradients = WorkerGradients(views, plan, separate=separate, add=True)
    each = np.random.default_rng(0).standard_normal((6, 2, 3), np.float32)
    gradients.offered(last=True, settles=False).take(each)
    found = dict(zip(plan.nodes, (views[slot] for slot in plan.slots), strict=True))
    assert (found[0, 1] == each[0]).all()
    assert (found[1, 1] == each[1] + each[2]).all()
    assert (found[2, 1] == (each[3] + each[4]) + each[5]).all()
