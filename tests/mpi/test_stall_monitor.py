"""Stalls, desyncs and early ends in real jobs: what is said, and that nothing hangs."""

import json
import re

import pytest


def stalling(how, mode):
    """Ranks wait for one that has something else to do; no time counts before each of them is where it shall be."""
    import ctypes
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    import numpy as np

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine(mode=mode, on_stall="report" if how == "late" else "abort")
    monitor, here = engine.monitor, Path(sys.argv[1])
    away = 0 if how == "first" else 2
    a = np.ones(100_000)
    nodes = [(0, world.rank, a)]
    comm.tree_all_reduce(engine, nodes, a, virtual_workers=3, label="first", step=6).wait()

    def until(condition):
        while not condition():
            engine.poll()
            time.sleep(0.01)

    def forgets_the_others():
        monitor.limit, monitor._next_beat = 3.0, 0.0
        while mode == "thread" and away and not (here / "heard").exists():
            time.sleep(0.01)
        if how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how == "gil":
            ctypes.PyDLL(None).sleep(3600)
        if how == "late":
            return until((here / "reported").exists)
        return time.sleep(3600)  # the line that is to be named

    def reports(report=monitor._report):
        report()
        (here / "reported").touch()

    if world.rank == away:
        forgets_the_others()
    handle = comm.tree_all_reduce(engine, nodes, a, virtual_workers=3, label="encoder.3", step=7)
    if world.rank == 0:
        monitor._report = reports
        if mode == "thread":
            until(lambda: "forgets_the_others" in monitor._heard.get(2, (0, {"line": ""}))[1]["line"])
            (here / "heard").touch()
    (here / f"posted{world.rank}").touch()
    until(lambda: all((here / f"posted{rank}").exists() for rank in range(3) if rank != away))
    monitor.limit = 3.0
    handle.wait()
    return float(a[0])


@pytest.mark.parametrize(("how", "mode"), [("sleeping", "thread"), ("first", "thread"), ("stopped", "thread")])
def test_a_stall_names_the_rank_the_bucket_and_the_line(mpirun, how, mode):
    job = mpirun(stalling, 3, how, mode, check=False)
    assert job.code != 0
    missing, waiting = (0, "1, 2") if how == "first" else (2, "0, 1")
    assert "Stall: nothing has moved for 3 s in all-reduce (exact) of bucket 'encoder.3', step 7" in job.stderr
    assert f"Waiting in it: ranks {waiting}." in job.stderr
    assert f"Missing: rank {missing}" in job.stderr
    assert "in forgets_the_others" in job.stderr
    if how == "stopped":
        assert "does not answer" in job.stderr
        assert "Its last heartbeat" in job.stderr
    else:
        assert "return time.sleep(3600)" in job.stderr
        assert "has not posted it" in job.stderr


def test_c_code_that_holds_the_gil_is_shown_by_faulthandler(mpirun):
    job = mpirun(stalling, 3, "gil", "thread", check=False)
    assert job.code != 0
    assert "Missing: rank 2 does not answer" in job.stderr
    assert re.search(r"most recent call first\):\n(  File .*\n)*  File .* in forgets_the_others", job.stderr)


def test_polling_ranks_report_too(mpirun):
    """A main thread that polls cannot answer while it does something else: its last heartbeat is told."""
    job = mpirun(stalling, 3, "sleeping", "poll", check=False)
    assert job.code != 0
    assert "Missing: rank 2 does not answer" in job.stderr
    assert "'encoder.3', step 7" in job.stderr


def test_on_stall_report_goes_on(mpirun):
    job = mpirun(stalling, 3, "late", "thread")
    assert job.values == [9.0] * 3
    assert job.stderr.count("Stall: nothing has moved") == 1


def training():
    """A step of data parallelism in which one rank is late."""
    import time

    from replicas import cross_entropy, data

    from allgrad import comm, nn, parallel

    world = comm.init()
    model = nn.Sequential(nn.Linear(6, 64, rng=0), nn.Linear(64, 3, rng=1))
    sizes = {"virtual_workers": 4, "bucket_mb": 1e-4, "first_bucket_mb": 1e-4}
    replica = parallel.DataParallel(model, world, **sizes, stall_seconds=1000.0)
    replica.step(cross_entropy(model), replica.split(data()), 6)
    monitor = world.engine.monitor
    assert monitor.limit == 1000.0
    monitor.limit = 3.0  # now that everything is compiled

    def loss(part):
        if world.rank == 1:
            time.sleep(3600)  # the line that is to be named
        return cross_entropy(model)(part)

    replica.step(loss, replica.split(data()), 7)


def test_a_stall_of_a_step_names_bucket_parameters_step_and_line(mpirun):
    job = mpirun(training, 3, check=False)
    assert job.code != 0
    assert (
        "Stall: nothing has moved for 3 s in all-reduce (exact) of bucket '0 (1.bias and 1 more)', step 7" in job.stderr
    )
    assert "Missing: rank 1" in job.stderr
    assert "in loss" in job.stderr
    assert "time.sleep(3600)" in job.stderr


def differing(how, mode):
    import json
    import sys
    import time
    from pathlib import Path

    import numpy as np

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine(mode=mode)
    odd = world.rank == 2
    size = 70_000 if odd and how == "size" else 60_000
    a = np.full(size, 1.5)
    label, step = ("b1" if odd and how == "bucket" else "b0"), (8 if odd and how == "step" else 7)
    layout = "1111" if odd and how == "layout" else "2222"
    text = ""
    try:
        if odd and how == "kind":
            world.barrier()
        else:
            comm.tree_all_reduce(
                engine, [(0, world.rank, a)], a, virtual_workers=3, label=label, step=step, layout=layout
            ).wait()
    except comm.DesyncError as error:
        text = str(error)
    untouched = bool((a == 1.5).all())
    said = [Path(sys.argv[1], f"said{rank}.json") for rank in range(3)]
    said[world.rank].with_suffix(".part").write_text(json.dumps([text, untouched]))
    said[world.rank].with_suffix(".part").rename(said[world.rank])
    while not all(file.exists() for file in said):
        time.sleep(0.01)  # the first rank to fail ends the others
    if text:
        comm.tree_all_reduce(engine, [(0, world.rank, np.ones(5))], np.ones(5), virtual_workers=3)


@pytest.mark.parametrize(
    ("how", "mode", "words"),
    [
        ("bucket", "thread", "bucket: 'b0' on ranks 0, 1; 'b1' on rank 2"),
        ("step", "poll", "step: '7' on ranks 0, 1; '8' on rank 2"),
        ("size", "thread", "elements: '60000 <f8' on ranks 0, 1; '70000 <f8' on rank 2"),
        ("layout", "thread", "layout: '2222' on ranks 0, 1; '1111' on rank 2"),
        ("kind", "thread", "collective: 'all-reduce (exact)' on ranks 0, 1; 'barrier' on rank 2"),
    ],
)
def test_a_desync_is_raised_everywhere_before_anything_is_added(mpirun, tmp_path, how, mode, words):
    job = mpirun(differing, 3, how, mode, check=False)
    assert job.code != 0
    said = [json.loads((tmp_path / "job1" / f"said{rank}.json").read_text()) for rank in range(3)]
    assert all(words in text and untouched for text, untouched in said)
    assert job.stderr.count("allgrad: rank 0 of 3") == 1
    assert job.stderr.count("DesyncError: The ranks of this job posted different collectives") == 1


def caught():
    """All ranks catch the error, and come to their end."""
    import numpy as np

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine()
    first, second = np.ones(60_000), np.ones(60_000)
    handles = [
        comm.tree_all_reduce(engine, [(0, world.rank, a)], a, virtual_workers=2, label=f"{label} of {world.rank}")
        for label, a in (("first", first), ("second", second))
    ]
    said = []
    for handle in handles:
        try:
            handle.wait()
        except comm.DesyncError as error:
            said.append(str(error).splitlines()[0])
    return said


def test_a_desync_that_is_caught_does_not_keep_the_program_from_ending(mpirun):
    said = mpirun(caught, 2).values
    assert said[0] == said[1]
    assert len(said[0]) == 2
    assert all("posted different collectives as number 0" in text for text in said[0])


def leaving(mode, code):
    import sys

    import numpy as np

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine(mode=mode)
    a = np.ones(100_000)
    comm.tree_all_reduce(engine, [(0, world.rank, a)], a, virtual_workers=3, label="b0", step=1).wait()
    if world.rank == 1:
        sys.exit(code)
    comm.tree_all_reduce(engine, [(0, world.rank, a)], a, virtual_workers=3, label="b1", step=2).wait()


@pytest.mark.parametrize(("mode", "code"), [("thread", 0), ("poll", 3)])
def test_a_rank_that_ends_early_ends_the_job(mpirun, mode, code):
    job = mpirun(leaving, 3, mode, code, check=False)
    assert job.code != 0
    assert "The program of rank 1 is over" in job.stderr
    assert "bucket 'b1', step 2" in job.stderr


def breaking(how, mode):
    import threading
    import time

    import numpy as np

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine(mode=mode)
    a = np.ones(1_000_000)
    if world.rank == 2:
        if how == "thread":
            threading.Thread(target=lambda: 1 / 0).start()
            time.sleep(3600)
        1 / 0  # noqa: B018
    comm.tree_all_reduce(engine, [(0, world.rank, a)], a, virtual_workers=3, label="b0", step=1).wait()


@pytest.mark.parametrize(("how", "mode"), [("main", "thread"), ("main", "poll"), ("thread", "thread")])
def test_an_exception_while_others_wait_for_a_bucket(mpirun, how, mode):
    job = mpirun(breaking, 3, how, mode, check=False)
    assert job.code != 0
    own = job.stderr[job.stderr.rindex("allgrad: rank") :]
    assert own.startswith("allgrad: rank 2 of 3")
    assert "ZeroDivisionError: division by zero" in own


def sharing():
    """A second model in a process whose engine has another limit."""
    from allgrad import comm, nn, parallel

    world = comm.init()
    parallel.DataParallel(nn.Linear(2, 2, rng=0), world, stall_seconds=40)
    parallel.DataParallel(nn.Linear(2, 2, rng=0), world)
    try:
        parallel.DataParallel(nn.Linear(2, 2, rng=0), world, stall_seconds=50)
    except ValueError as error:
        return str(error)


def test_models_of_a_process_share_one_limit(mpirun):
    words = "stall_seconds is to be 50, but this process has an engine with stall_seconds=40 already"
    assert all(words in text for text in mpirun(sharing, 2).values)
