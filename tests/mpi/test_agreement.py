"""A user's mistake on any rank is one error on all ranks; a bug is not."""

from __future__ import annotations


def mistakes():
    import pytest

    from allgrad import comm
    from allgrad.errors import CollectiveError
    from allgrad.train.config.errors import ConfigError, Mistake
    from allgrad.train.run.agreement import on_every_rank, on_rank_0

    world = comm.init()

    def wrong(*ranks):
        def function():
            if world.rank in ranks:
                raise ConfigError([Mistake("key", "is wrong.", f"file of {world.rank}")])
            return world.rank

        return function

    assert on_every_rank(world, wrong()) == world.rank
    assert on_every_rank(world, lambda: None) is None
    assert on_rank_0(world, lambda: [world.rank]) == [0]
    said = []
    for function in (wrong(1, 2), wrong(0, 1, 2)):
        with pytest.raises(CollectiveError) as caught:
            on_every_rank(world, function)
        said.append([str(caught.value), caught.value.exit_code])
    with pytest.raises(CollectiveError, match="file of 0"):
        on_rank_0(world, wrong(0, 1))
    assert on_rank_0(world, wrong(1)) == 0
    return said


def test_it_is_shared(mpirun) -> None:
    first, second, third = mpirun(mistakes, 3).values
    assert first == second == third
    (some, code), (everywhere, _) = first
    assert some.startswith("rank 1 on ")
    assert some.endswith("file of 1: key: is wrong.")
    assert code == 2
    assert everywhere == "file of 0: key: is wrong."


def bug():
    from allgrad import comm
    from allgrad.train.run.agreement import on_every_rank

    world = comm.init()
    on_every_rank(world, lambda: 1 // world.rank)


def test_a_bug_stays_where_it_arose(mpirun) -> None:
    job = mpirun(bug, 2, check=False)
    assert job.code != 0
    assert "rank 0 of 2" in job.stderr
    assert "ZeroDivisionError" in job.stderr
