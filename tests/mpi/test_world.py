"""The world in real jobs: numbering, start-up collectives, verification, and the end of all ranks when one fails."""

import sys

import pytest


def collectives():
    import numpy as np

    from allgrad import comm

    world = comm.init()
    assert comm.init() is world
    results = {
        "place": [world.rank, world.size, world.node, world.nodes, world.local_rank, world.local_size, world.is_mpi],
        "broadcast": world.broadcast(np.arange(6.0).reshape(2, 3) * (world.rank + 1), root=world.size - 1).tolist(),
        "bool": world.broadcast(np.array([world.rank == 0] * 3)).tolist(),
        "gather": world.all_gather(np.full((2, 2), world.rank, np.int16)).tolist(),
        "scalar": world.all_gather(np.float32(world.rank)).tolist(),
        "empty": list(world.all_gather(np.empty((0, 3))).shape),
        "json": world.broadcast_json({"name": "run-é", "root": world.rank}, root=0),
        "all": world.all_gather_json("x" * world.rank),
    }
    world.barrier()
    world.verify({"code": "same"})
    world.verify_arrays({"w": np.ones(3)})
    messages = []
    for check in (
        lambda: world.verify({"code": "new" if world.rank == 2 else "old", "blas": "x"}),
        lambda: world.verify_arrays({"w": np.full(3, float(world.rank == 1)), "b": np.ones(2)}),
    ):
        try:
            check()
        except comm.DisagreementError as error:
            messages.append(str(error))
    world.verify({"cpu": str(world.rank)}, tolerate={"cpu"})
    return results | {"messages": messages}


@pytest.mark.parametrize("ranks", [1, 3])
def test_collectives_and_verification(mpirun, ranks):
    job = mpirun(collectives, ranks)
    for rank, value in enumerate(job.values):
        assert value["place"] == [rank, ranks, 0, 1, rank, ranks, True]
        assert value["broadcast"] == [[0.0, ranks, 2.0 * ranks], [3.0 * ranks, 4.0 * ranks, 5.0 * ranks]]
        assert value["bool"] == [True] * 3
        assert value["gather"] == [[[r, r], [r, r]] for r in range(ranks)]
        assert value["scalar"] == list(range(ranks))
        assert value["empty"] == [ranks, 0, 3]
        assert value["json"] == {"name": "run-é", "root": 0}
        assert value["all"] == ["x" * r for r in range(ranks)]
        if ranks == 3:
            code, weights = value["messages"]
            assert "code: 'old' on ranks 0, 1; 'new' on rank 2" in code
            assert "blas" not in code
            assert "weights w" in weights
            assert "on rank 1" in weights
            assert "weights b" not in weights


def failing(how):
    import pathlib
    import threading
    import time

    from allgrad import comm

    world = comm.init()
    here = pathlib.Path(sys.argv[1])
    world.on_failure = lambda text: (here / f"failure{world.rank}.txt").write_text(text)

    def break_down():
        raise ValueError("the cause of it all")

    if how == "disagreement":
        world.verify({"code": str(world.rank)})
    if world.rank == 1:
        if how == "thread":
            threading.Thread(target=break_down, name="loader").start()
            time.sleep(3600)
        break_down()
    world.barrier()


@pytest.mark.parametrize("how", ["main", "thread", "disagreement"])
def test_a_failing_rank_ends_all(mpirun, tmp_path, how):
    job = mpirun(failing, 3, how, check=False)
    assert job.code not in (0, None)
    speaker = 0 if how == "disagreement" else 1
    written = (tmp_path / "job1" / f"failure{speaker}.txt").read_text()
    assert written in job.stderr
    assert f"allgrad: rank {speaker} of 3" in written
    assert "Traceback" in written
    if how == "disagreement":
        assert job.stderr.count("allgrad: rank") == 1
        assert "code: '0' on rank 0; '1' on rank 1; '2' on rank 2" in written
    else:
        assert written.rstrip().endswith("ValueError: the cause of it all")
        assert "break_down" in written
    if how == "thread":
        assert "in thread 'loader'" in written


def test_ranks_that_see_themselves_alone_are_told(mpi_flavour, run_group, clean_environment):
    """An MPI library that is started by the launcher of another one comes up as a world of its own."""
    foreign = {
        "mpich": {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"},
        "openmpi": {"PMI_RANK": "0", "PMI_SIZE": "2"},
    }[mpi_flavour[0]]
    command = [sys.executable, "-c", "from allgrad import comm; comm.init()"]
    code, _, err = run_group(command, env=clean_environment(foreign))
    assert code == 1
    assert "started 2 ranks, but the MPI library sees 1" in err
