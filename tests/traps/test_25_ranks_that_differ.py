"""Trap 25: different initial weights, buffers, shapes or settings on one rank are found at the start, by name, on every rank."""

import pytest


def job(how):
    import json
    import pathlib
    import sys

    import numpy as np

    from allgrad import comm, nn, parallel

    world = comm.init()
    odd = world.rank == world.size - 1
    wide = 5 if odd and how == "shape" else 4
    model = nn.Sequential(
        nn.Linear(6, wide, rng=0), nn.BatchNorm1d(wide), nn.Linear(wide, 3, rng=int(odd and how == "weights"))
    )
    if odd and how == "extra":
        model = nn.Sequential(*model.children(), nn.Linear(3, 3, rng=0))
    if odd and how == "buffer":
        model[1].running_mean += np.float32(1)
    options = {"virtual_workers": 9 if odd and how == "workers" else 8, "seed": int(odd and how == "seed")}
    try:
        parallel.DataParallel(model, world, weights="verify", **options)
    except comm.DisagreementError as error:
        pathlib.Path(sys.argv[1], f"said{world.rank}.json").write_text(json.dumps(str(error)))
        world.barrier()  # the first rank to fail ends the others
        raise
    return "nothing was found"


@pytest.mark.parametrize(
    ("how", "ranks", "words"),
    [
        ("weights", 3, "initial weights 2.weight: "),
        ("buffer", 2, "initial buffer 1.running_mean: "),
        ("shape", 3, "parameter 0.weight: 'float32 (6, 4)' on ranks 0, 1; 'float32 (6, 5)' on rank 2"),
        ("extra", 7, "parameter 3.weight: missing on ranks 0-5; 'float32 (3, 3)' on rank 6"),
        ("workers", 2, "virtual workers: '8' on rank 0; '9' on rank 1"),
        ("seed", 2, "seed: '0' on rank 0; '1' on rank 1"),
    ],
)
def test_named_by_rank(mpirun, tmp_path, how, ranks, words):
    result = mpirun(job, ranks, how, check=False)
    assert result.code not in (0, None)
    said = {(tmp_path / "job1" / f"said{rank}.json").read_text() for rank in range(ranks)}
    assert len(said) == 1
    assert words in said.pop()
    assert words in result.stderr
    assert f"rank {ranks - 1}" in result.stderr


def broadcasting():
    import numpy as np
    from replicas import digest

    from allgrad import comm, nn, parallel

    world = comm.init()
    model = nn.Sequential(nn.Linear(6, 4, rng=world.rank), nn.BatchNorm1d(4), nn.Linear(4, 3, rng=world.rank))
    model[1].running_mean += np.float32(world.rank)
    parallel.DataParallel(model, world, virtual_workers=8)
    return digest(model)


def test_or_all_take_rank_0s(mpirun):
    assert set(mpirun(broadcasting, 3).values) == {broadcasting()}


def too_many():
    from allgrad import comm, nn, parallel

    parallel.DataParallel(nn.Linear(6, 3, rng=0), comm.init(), virtual_workers=2)


def test_more_ranks_than_workers(mpirun):
    result = mpirun(too_many, 3, check=False)
    assert result.code not in (0, None)
    assert "3 ranks cannot share 2 virtual workers: each rank needs at least one" in result.stderr
