"""Trap 19: a parameter not used in this step on some ranks: zeros on the wire, no hang, the same collectives on every rank."""

import pytest


def job():
    from replicas import Branches, digest, train

    from allgrad import comm

    model = Branches()
    _, results = train(model, comm.init())
    posted = [[t.label for t in r.times.buckets] for r in results]
    unused = [sorted(r.unused) for r in results]
    return {"digest": digest(model, [r.loss for r in results]), "posted": posted, "unused": unused}


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_unused_on_some_ranks(mpirun, ranks):
    expected = job()  # V workers in one process: nothing is sent
    values = mpirun(job, ranks).values
    for value in values:
        assert value["digest"] == expected["digest"]
        assert value["unused"] == expected["unused"]
        assert value["posted"] == values[0]["posted"]
    assert all("never.weight" in names for names in expected["unused"])
    assert len(values[0]["posted"][0]) == len(set(values[0]["posted"][0])) > 3  # every bucket travels, once


def skips():
    """What nobody used must not move, and not come back."""
    from replicas import Branches, data, train

    from allgrad import comm

    model = Branches()
    before = model.never.weight.value.copy()
    x, y = data()
    train(model, comm.init(), arrays=(x, y))
    return [model.never.weight.grad is None, bool((model.never.weight.value == before).all())]


def test_what_no_rank_used_is_skipped_by_the_optimizer(mpirun):
    assert mpirun(skips, 2).values == [[True, True]] * 2
