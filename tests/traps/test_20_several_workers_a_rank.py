"""Trap 20: workers of a rank communicate during the last one's backward only; several backward passes fire no event twice."""

import pytest


def job(how):
    import time

    import numpy as np
    from replicas import digest, train

    import allgrad as ag
    from allgrad import comm, nn

    world = comm.init()
    model = nn.Sequential(
        *(layer for i in range(6) for layer in (nn.Linear(6, 6, rng=i), nn.Tanh())), nn.Linear(6, 3, rng=9)
    )
    began = []

    def loss(part):
        logits = model(part[0])
        value = nn.CrossEntropyLoss()(logits, part[1])
        if how == "two passes":  # an auxiliary objective with a backward of its own
            np.mean(logits * logits).backward(retain_graph=True)
        if how == "inner":  # a derivative inside the loss
            slope = ag.grad(lambda x: np.sum(np.tanh(model(x))))(part[0])
            value = value + np.mean(slope * slope)
        began.append(time.perf_counter())
        return value

    replica, results = train(model, world, steps=2, sizes=(60,), loss=loss)
    out = {"digest": digest(model, [r.loss for r in results]), "workers": len(replica.workers)}
    if world.size > 1:
        last = began[len(replica.workers) - 1] + (
            world.clock() - time.perf_counter()
        )  # the first step's last forward had ended
        times = results[0].times
        out["early"] = [b.ready < last for b in times.buckets]
        out["behind"] = [b.ready < times.computed for b in times.buckets]
        out["labels"] = [b.label for b in times.buckets]
    return out


@pytest.mark.parametrize(("how", "ranks"), [("plain", 2), ("plain", 3), ("two passes", 2), ("inner", 3), ("inner", 7)])
def test_one_event_and_one_collective_a_bucket(mpirun, how, ranks):
    expected = job(how)
    for value in mpirun(job, ranks, how).values:
        assert value["digest"] == expected["digest"]
        assert not any(value["early"])
        assert all(value["behind"])
        assert len(value["labels"]) == len(set(value["labels"])) >= 7


def buffers():
    import numpy as np
    from replicas import cross_entropy, digest, train

    from allgrad import comm, nn

    model = nn.Sequential(nn.Linear(6, 5, rng=0), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3, rng=1))
    train(model, comm.init(), loss=cross_entropy(model), sizes=(60, 33))
    statistics = {name: np.asarray(array).tolist() for name, array in model.named_buffers()}
    return digest(model, statistics)


@pytest.mark.parametrize("ranks", [2, 7])
def test_running_statistics_do_not_leak_between_workers(mpirun, ranks):
    assert set(mpirun(buffers, ranks).values) == {buffers()}


def accumulation():
    """The last pass after `no_sync` communicates during its last worker's backward as well."""
    from replicas import cross_entropy, data, digest

    from allgrad import comm, nn, optim, parallel

    world = comm.init()
    model = nn.Sequential(nn.Linear(6, 5, rng=0), nn.Tanh(), nn.Linear(5, 3, rng=1))
    replica = parallel.DataParallel(model, world, virtual_workers=8, bucket_mb=1e-4, first_bucket_mb=1e-4)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    parts = replica.split(data())
    quiet = []
    for step in range(6):
        if step % 3 < 2:
            with replica.no_sync():
                quiet.append(replica.step(cross_entropy(model), parts, step))
        else:
            result = replica.step(cross_entropy(model), parts, step)
            optimizer.step()
    silent = all(not r.times.buckets for r in quiet)
    behind = [b.ready < result.times.computed for b in result.times.buckets]
    return {"digest": digest(model), "silent": silent, "behind": all(behind), "buckets": len(behind)}


@pytest.mark.parametrize("ranks", [2, 3])
def test_accumulation(mpirun, ranks):
    expected = accumulation()
    for value in mpirun(accumulation, ranks).values:
        assert value["digest"] == expected["digest"]
        assert value["silent"]
        assert value["behind"]
        assert value["buckets"] >= 2
