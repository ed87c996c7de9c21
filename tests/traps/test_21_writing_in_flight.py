"""Trap 21: `zero_grad`, or a write, while a bucket is in flight is an error; after the step the memory is the user's again."""

import pytest


def job(mode):
    import sys
    import time
    from pathlib import Path

    from replicas import data, digest

    from allgrad import comm, nn, parallel
    from allgrad.autodiff.errors import InFlightError

    world = comm.init()
    model = nn.Sequential(nn.Linear(6, 64, rng=0), nn.Linear(64, 3, rng=1))
    replica = parallel.DataParallel(model, world, virtual_workers=world.size, bucket_mb=1e-4, comm=mode)
    head = model[1].weight
    said, tried = [], Path(sys.argv[1], "tried")

    def in_the_middle(_):
        """In backward, between the two layers: the head's bucket is on its way, and rank 1 has not posted it yet."""
        if world.rank:
            return
        said.append(head.grad is not None)
        for attempt in (lambda: head.grad.fill(0), head.zero_grad, lambda: head.node.accumulate(head.grad)):
            try:
                attempt()
            except (InFlightError, ValueError) as error:
                said.append(str(error))
        tried.touch()

    def loss(part):
        hidden = model[0](part[0])
        hidden.register_hook(in_the_middle)
        value = nn.CrossEntropyLoss()(model[1](hidden), part[1])
        while world.rank and not tried.exists():
            world.engine.poll()
            time.sleep(0.001)
        return value

    replica.step(loss, replica.split(data()), 0)
    gradient = digest(model, head.grad.tobytes())
    head.grad.fill(0)
    head.zero_grad()
    replica.step(lambda part: nn.CrossEntropyLoss()(model(part[0]), part[1]), replica.split(data()), 0)
    return {"said": said, "same": digest(model, head.grad.tobytes()) == gradient}


@pytest.mark.parametrize(("ranks", "mode"), [(2, "thread"), (3, "polling")])
def test_a_bucket_in_flight_is_guarded(mpirun, ranks, mode):
    values = mpirun(job, ranks, mode).values
    assert all(value["same"] for value in values)
    there, write, clear, backward = values[0]["said"]
    assert there
    assert "read-only" in write
    assert "zero_grad() was called while the gradient is being reduced" in clear
    assert "is being reduced over the ranks" in backward
