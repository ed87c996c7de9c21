"""Trap 23: a small last batch, fewer samples than ranks, empty workers: right weights, no hang, each sample counted once."""

import numpy as np
import pytest


def job(size):
    import numpy as np
    from replicas import data, digest, train

    from allgrad import comm, nn

    world = comm.init()
    model = nn.Sequential(nn.Linear(6, 5, rng=0), nn.Tanh(), nn.Linear(5, 3, rng=1))
    arrays = data(size)
    replica, results = train(model, world, arrays=arrays, sizes=(size, max(1, size - 1)))
    parts = replica.split(arrays)
    rows = np.array(
        [[np.sum(np.argmax(model(x).value, 1) == y) if len(x) else 0, len(x)] for x, y in parts.values()], float
    )
    gradients = [p.grad.tolist() for p in model.parameters()]
    return {
        "digest": digest(model, [r.loss for r in results]),
        "evaluated": comm.tree_sum(world, rows, virtual_workers=8).tolist(),
        "counts": [r.counts["loss"] for r in results],
        "gradients": gradients,
    }


@pytest.mark.parametrize("ranks", [2, 3, 7])
@pytest.mark.parametrize("size", [2, 5])
def test_fewer_samples_than_workers(mpirun, ranks, size):
    expected = job(size)
    for value in mpirun(job, ranks, size).values:
        assert value == expected
    assert expected["evaluated"][1] == size
    assert expected["counts"] == [size, size - 1, size, size - 1]


def test_the_gradient_is_the_batch_mean():
    from replicas import data

    from allgrad import nn, parallel
    from allgrad.comm import World

    x, y = data(5)
    gradients = []
    for total in (1, 8):
        model = nn.Linear(6, 3, rng=0)
        replica = parallel.DataParallel(model, World(), virtual_workers=total)
        replica.step(lambda part, model=model: nn.CrossEntropyLoss()(model(part[0]), part[1]), replica.split((x, y)), 0)
        gradients.append([p.grad.copy() for p in model.parameters()])
    for whole, cut in zip(*gradients, strict=True):
        np.testing.assert_allclose(cut, whole, rtol=1e-5, atol=1e-7)


def nothing_at_all():
    from replicas import data

    from allgrad import comm, nn, parallel

    world = comm.init()
    model = nn.Linear(6, 3, rng=0)
    replica = parallel.DataParallel(model, world, virtual_workers=4)

    def loss(part):
        return nn.CrossEntropyLoss()(model(part[0]), part[1])

    try:
        replica.step(loss, dict.fromkeys(replica.workers), 0)
        said = ""
    except ValueError as error:
        said = str(error)
    return [said, replica.step(loss, replica.split(data()), 1).counts["loss"]]


def test_an_empty_batch_is_refused_everywhere_and_the_next_goes_on(mpirun):
    for said, count in mpirun(nothing_at_all, 3).values:
        assert "step 0: no worker has a sample" in said
        assert count == 60
