"""Trap 19: a parameter not used in this step on some ranks: zeros on the wire, no hang, the same collectives on every rank."""

import pytest


def job():
    def unused():
        from replicas import Branches, digest, train

        from allgrad import comm

        model = Branches()
        _, results = train(model, comm.init())
        posted = [[t.label for t in r.times.buckets] for r in results]
        unused = [sorted(r.unused) for r in results]
        return {"digest": digest(model, [r.loss for r in results]), "posted": posted, "unused": unused}

    def skips():
        """Whether what nobody used has no gradient, and has not moved."""
        from replicas import Branches, data, train

        from allgrad import comm

        model = Branches()
        before = model.never.weight.value.copy()
        x, y = data()
        train(model, comm.init(), arrays=(x, y))
        return [model.never.weight.grad is None, bool((model.never.weight.value == before).all())]

    return {"unused on some ranks": unused(), "used by nobody": skips()}


@pytest.fixture(scope="module")
def expected():
    return job()  # V workers in one process: nothing is sent


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_unused_on_some_ranks(mpirun, expected, ranks):
    one = expected["unused on some ranks"]
    values = mpirun(job, ranks).values
    found = [value["unused on some ranks"] for value in values]
    for value in found:
        assert value["digest"] == one["digest"]
        assert value["unused"] == one["unused"]
        assert value["posted"] == found[0]["posted"]
    assert all("never.weight" in names for names in one["unused"])
    assert len(found[0]["posted"][0]) == len(set(found[0]["posted"][0])) > 3  # every bucket travels, once
    # The optimizer skips what no rank used.
    assert [value["used by nobody"] for value in values] == [[True, True]] * ranks
