"""What a caller may post, in a world of one rank, where no MPI is needed."""

from types import SimpleNamespace

import numpy as np
import pytest

from allgrad.comm import Engine, World, tree_all_reduce


@pytest.fixture
def engine():
    world = World()
    yield world.start_engine()
    world.close()


def test_one_process_runs_the_same_calls(engine):
    nodes, out = [(3, 0, np.arange(5.0))], np.zeros(5)
    handle = tree_all_reduce(engine, nodes, out, virtual_workers=8, label="b", step=2)
    assert handle.done
    with pytest.raises(ValueError, match="read-only"):
        out[0] = 1
    handle.wait()
    out[0] = 0
    assert out.tolist() == [0, 1, 2, 3, 4]
    (times,) = engine.take_times()
    assert (times.label, times.step, times.nbytes) == ("b", 2, 40)
    assert times.ready <= times.posted <= times.progress <= times.done


def test_a_sum_that_overflows_is_no_warning(engine):
    out = np.full(3, 3e38, np.float32)
    tree_all_reduce(engine, [(0, 0, out)], out, virtual_workers=1).wait()


@pytest.mark.parametrize(
    ("nodes", "out", "error", "words"),
    [
        ([(0, 0, np.ones(3))], np.ones(3), ValueError, r"maximal nodes \[\(3, 0\)\].*Got \[\(0, 0\)\]"),
        ([(3, 0, np.ones(3, int))], np.ones(3, int), TypeError, "float32 or float64. Got int"),
        ([(3, 0, np.ones((3, 1)))], np.ones((3, 1)), ValueError, "flat, contiguous"),
        ([(3, 0, np.ones(6)[::2])], np.ones(3), ValueError, "flat, contiguous"),
        ([(3, 0, np.ones(4))], np.ones(3), ValueError, "flat, contiguous"),
        ([(3, 0, np.ones(3, "f4"))], np.ones(3), ValueError, "flat, contiguous"),
    ],
)
def test_wrong_arrays_are_named(engine, nodes, out, error, words):
    with pytest.raises(error, match=words):
        tree_all_reduce(engine, nodes, out, virtual_workers=8)


def test_arrays_that_overlap_are_refused(engine):
    memory = np.zeros(10)
    with pytest.raises(ValueError, match="must not overlap"):
        tree_all_reduce(engine, [(3, 0, memory[:6])], memory[2:8], virtual_workers=8)


def test_known_modes():
    with pytest.raises(ValueError, match="'thread', 'poll' or None"):
        Engine(World(), mode="fibre")


def test_what_is_posted_in_the_moment_of_a_failure_is_told_too(engine):
    a = np.ones(3)
    with engine._mpi:  # somebody is about to find that the ranks differ
        handle = tree_all_reduce(engine, [(0, 0, a)], a, virtual_workers=1)
        engine.pipeline.error = RuntimeError("the ranks differ")
    with pytest.raises(RuntimeError, match="the ranks differ"):
        handle.wait()
    assert engine.unfinished() is None
    with pytest.raises(RuntimeError, match="the ranks differ"):
        tree_all_reduce(engine, [(0, 0, np.ones(3))], np.ones(3), virtual_workers=1)


def test_poll_lends_a_communication_thread_a_hand_only_where_that_is_late(engine, monkeypatch):
    monkeypatch.setattr("allgrad.comm.engine.time", SimpleNamespace(perf_counter=lambda: 100.0))
    a = np.ones(3)
    with engine._mpi:  # so that it is posted, and nobody looks
        handle = tree_all_reduce(engine, [(0, 0, a)], a, virtual_workers=1)
    monkeypatch.setattr(engine, "_thread", object())
    engine._polled = 100.0 - engine.poll_seconds
    engine.poll()
    assert not handle.done
    engine._polled = 100.0 - 3 * engine.poll_seconds
    engine.poll()
    assert handle.done
