"""Trap 24: one rank raises while others wait in the reduction: every rank ends, soon, code not 0; the cause is the last word."""

import pytest


def job(how, mode):
    import pathlib
    import sys
    import threading
    import time

    from replicas import data

    from allgrad import comm, nn, parallel

    world = comm.init()
    here = pathlib.Path(sys.argv[1])
    world.on_failure = lambda text: (here / f"failure{world.rank}.txt").write_text(text)
    model = nn.Sequential(nn.Linear(6, 64, rng=0), nn.Linear(64, 3, rng=1))
    replica = parallel.DataParallel(model, world, virtual_workers=8, bucket_mb=1e-4, comm=mode)

    def the_cause(_):
        raise ValueError("the cause of it all")

    def loss(part):
        hidden = model[0](part[0])
        if world.rank == 1:
            if how == "forward":
                the_cause(None)
            if how == "backward":  # the head's bucket is under way already
                hidden.register_hook(the_cause)
            if how == "thread":
                threading.Thread(target=the_cause, args=(None,), name="loader").start()
                time.sleep(3600)
        return nn.CrossEntropyLoss()(model[1](hidden), part[1])

    replica.step(loss, replica.split(data()), 0)


@pytest.mark.parametrize(
    ("how", "ranks", "mode"),
    [
        ("forward", 2, "thread"),
        ("backward", 3, "thread"),
        ("thread", 3, "thread"),
        ("backward", 2, "polling"),
        ("thread", 7, "polling"),
    ],
)
def test_all_ranks_end_with_the_cause(mpirun, tmp_path, how, ranks, mode):
    result = mpirun(job, ranks, how, mode, check=False)
    assert result.code not in (0, None)
    written = (tmp_path / "job1" / "failure1.txt").read_text()
    assert written.rstrip().endswith("ValueError: the cause of it all")
    own = result.stderr[result.stderr.rindex("allgrad: rank") :]
    assert own.startswith(written)
    assert ("in thread 'loader'" in written) == (how == "thread")


def alike():
    """Every rank fails in the same step, and catches it: training goes on, as if the step had not been."""
    from replicas import cross_entropy, data, digest

    from allgrad import comm, nn, optim, parallel

    world = comm.init()
    model = nn.Sequential(nn.Linear(6, 5, rng=0), nn.BatchNorm1d(5), nn.Linear(5, 3, rng=1))
    replica = parallel.DataParallel(model, world, virtual_workers=8, bucket_mb=1e-5, first_bucket_mb=1e-5)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    parts = replica.split(data())

    def fail(_):
        raise ArithmeticError("not a number")

    def broken(part):
        hidden = model[1](model[0](part[0]))
        hidden.register_hook(fail)
        return nn.CrossEntropyLoss()(model[2](hidden), part[1])

    failures = 0
    for step in range(4):
        if step in (1, 2):
            try:
                replica.step(broken, parts, step)
            except ArithmeticError:
                failures += 1
                assert all(p.grad is None for p in model.parameters())
        replica.step(cross_entropy(model), parts, step)
        optimizer.step()
    return [failures, digest(model)]


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_failure_on_all_ranks_can_be_survived(mpirun, ranks):
    expected = alike()
    assert expected[0] == 2
    assert mpirun(alike, ranks).values == [expected] * ranks


def alone():
    """One rank catches its failure and goes on to the next step, the others are still in this one."""
    import contextlib

    from replicas import cross_entropy, data

    from allgrad import comm, nn, parallel

    world = comm.init()
    model = nn.Sequential(nn.Linear(6, 5, rng=0), nn.Linear(5, 3, rng=1))
    replica = parallel.DataParallel(model, world, virtual_workers=8)
    parts = replica.split(data())

    def loss(part):
        if world.rank == 1:
            raise ArithmeticError
        return cross_entropy(model)(part)

    with contextlib.suppress(ArithmeticError):
        replica.step(loss, parts, 6)
    replica.step(cross_entropy(model), parts, 7)


def test_a_rank_that_goes_on_alone_is_found_before_anything_is_added(mpirun):
    result = mpirun(alone, 3, check=False)
    assert result.code not in (0, None)
    assert "DesyncError: The ranks of this job posted different collectives" in result.stderr
    assert "bucket: '0 (1.bias and 3 more)' on ranks 0, 2; missing on rank 1" in result.stderr
