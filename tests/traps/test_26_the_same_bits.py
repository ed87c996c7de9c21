"""Trap 26: bits depend neither on the rank count, nor on addresses, nor on who comes when, nor on early or late reduction."""

import pytest

HOWS = ("addresses", "late", "arrival")


def job(*hows):
    """The hashes of some ways, and that of MPI's own order of summation."""

    def hashes_of(how):
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

    def library():
        from replicas import Branches, digest, train

        from allgrad import comm

        model = Branches()
        _, results = train(model, comm.init(), reduction="mpi")
        return digest(model, [r.loss for r in results], [sorted(r.unused) for r in results])

    return {"ways": [hashes_of(how) for how in hows], "library": library()}


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_one_hash(mpirun, ranks):
    expected = job("early")["ways"][0]
    values = mpirun(job, ranks, *HOWS).values
    assert [value["ways"] for value in values] == [[expected * 2] * len(HOWS)] * ranks
    if ranks == 3:  # MPI's own order gives other bits, or this would prove nothing
        assert values[0]["library"] != expected[0]
