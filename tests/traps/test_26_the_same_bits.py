"""Trap 26: bits depend neither on the rank count, nor on addresses, nor on who comes when, nor on early or late reduction."""

import pytest


def job(how):
    import time

    import numpy as np
    from replicas import Branches, digest, train

    from allgrad import comm, nn
    from allgrad.memory import Private, aligned_zeros, flatten

    world = comm.init()
    hashes = []
    for mode in ["auto"] if world.size == 1 else ["thread", "polling"]:
        model, options = Branches(), {"comm": mode}
        if how == "addresses":  # elsewhere in memory on every rank

            class Elsewhere(Private):
                def allocate(self, length, dtype):
                    step = 64 // dtype.itemsize
                    return aligned_zeros(length + 8 * step, dtype)[(1 + world.rank % 7) * step :][:length]

            flat = flatten(model.named_parameters(), sharing=Elsewhere())
            assert flat is flatten(model.named_parameters())
        if how == "late":  # one bucket: nothing starts before the whole backward is over
            options |= {"bucket_mb": 25, "first_bucket_mb": 25}
        rng = np.random.default_rng(100 + world.rank)

        def loss(part, model=model, rng=rng):
            if how == "arrival":
                time.sleep(rng.random() * 0.01)
            return nn.CrossEntropyLoss()(model(part[0]), part[1])

        _, results = train(model, world, loss=loss, **options)
        hashes.append(digest(model, [r.loss for r in results], [sorted(r.unused) for r in results]))
        if world.engine is not None:
            world.start_engine()
    return hashes


@pytest.mark.parametrize(
    ("how", "ranks"), [("addresses", 3), ("late", 3), ("arrival", 5), ("addresses", 7), ("arrival", 2)]
)
def test_one_hash(mpirun, how, ranks):
    expected = job("early")
    assert mpirun(job, ranks, how).values == [expected * 2] * ranks


def test_the_numbers_of_this_test_show_their_order(mpirun):
    """MPI's own order gives other bits, or the test above would prove nothing."""
    assert mpirun(library, 3).values[0] != job("early")[0]


def library():
    from replicas import Branches, digest, train

    from allgrad import comm

    model = Branches()
    _, results = train(model, comm.init(), reduction="mpi")
    return digest(model, [r.loss for r in results], [sorted(r.unused) for r in results])
