"""Trap 22: the order of buckets is the same on every rank even where the ranks' graphs differ."""

import pytest


def job(mode):
    from replicas import Branches, digest, train

    from allgrad import comm

    world = comm.init()
    model = Branches()
    replica, results = train(model, world, steps=6, comm=mode)
    ready = [[t.label for t in sorted(r.times.buckets, key=lambda t: t.ready)] for r in results]
    return {
        "digest": digest(model, [r.loss for r in results]),
        "posted": [[t.label for t in r.times.buckets] for r in results],
        "ready": ready,
        "state": replica.reducer.state_dict(),
    }


@pytest.mark.parametrize(("ranks", "mode"), [(2, "thread"), (3, "polling"), (7, "thread")])
def test_one_order(mpirun, ranks, mode):
    values = mpirun(job, ranks, mode).values
    assert {value["digest"] for value in values} == {job("auto")["digest"]}
    assert all(value["posted"] == values[0]["posted"] for value in values)
    assert all(value["state"] == values[0]["state"] for value in values)
    assert values[0]["state"]["agreed"]
    # From the second step on it is the order in which rank 0 saw them ready in the first.
    order = [int(label.split()[0]) for label in values[0]["posted"][1]]
    assert order == [int(label.split()[0]) for label in values[0]["ready"][0]] == values[0]["state"]["order"]
    # And it was a matter to agree on: the ranks saw buckets become ready in different orders.
    assert any(value["ready"][step] != value["posted"][step] for value in values for step in range(6))
