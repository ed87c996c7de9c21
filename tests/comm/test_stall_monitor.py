"""What counts as a stall, on a clock that the test moves; real ones are in tests/mpi/test_stall_monitor.py."""

from types import SimpleNamespace

import pytest

from allgrad.comm import failure, stall_monitor

LIMIT = 100.0


class Progress:
    """What a monitor looks at: a collective is under way, or none."""

    def __init__(self):
        self.pending, self.posted, self.finished, self.moves = None, 0, 0, 0

    def unfinished(self):
        return self.pending

    def start(self, number):
        self.pending = SimpleNamespace(number=number, describe=lambda: f"collective {number}")
        self.finished, self.posted = number, number + 1


class Ranks:
    """Two ranks that look at the clock in turn; `said` is what ended the job."""

    def __init__(self, network, monkeypatch):
        self.now, self.said, self.network = 0.0, [], network
        monkeypatch.setattr(stall_monitor.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(failure, "end", lambda topology, text: self.said.append((topology.rank, text)))
        self.progress = [Progress() for _ in range(2)]
        self.monitors = [
            stall_monitor.StallMonitor(
                progress, SimpleNamespace(rank=rank, size=2, host="here"), network.comms[rank], limit=LIMIT
            )
            for rank, progress in enumerate(self.progress)
        ]

    def look(self, *ranks):
        for rank in ranks:
            self.monitors[rank].tick()
        while self.network.deliver(lambda able: able[0]):
            pass

    def wait(self, seconds, *ranks):
        for _ in range(int(seconds)):
            self.now += 1
            self.look(*(ranks or (0, 1)))


@pytest.fixture
def ranks(make_network, monkeypatch):
    made = Ranks(make_network(2), monkeypatch)
    made.look(0, 1)
    return made


def test_a_job_that_one_rank_does_not_post_is_a_stall(ranks):
    ranks.progress[0].start(3)
    ranks.wait(LIMIT)
    assert ranks.said == []
    ranks.wait(10)
    ((speaker, text),) = ranks.said
    assert speaker == 0
    assert "nothing has moved for 100 s in collective 3" in text
    assert "Missing: rank 1" in text


def test_one_that_rank_0_does_not_post_is_told_to_it(ranks):
    ranks.progress[1].start(0)
    ranks.wait(LIMIT + 15)
    assert "Missing: rank 0" in ranks.said[0][1]


def test_time_in_which_nobody_looked_does_not_count(ranks):
    """A job that was suspended for an hour goes on."""
    for progress in ranks.progress:
        progress.start(0)
    ranks.wait(20)
    ranks.now += 3600
    ranks.look(0, 1)
    assert ranks.said == []
    ranks.wait(50)
    ranks.progress[0].moves = ranks.progress[1].moves = 1
    ranks.wait(LIMIT)
    assert ranks.said == []
    ranks.wait(10)
    assert len(ranks.said) == 1


def test_what_has_finished_by_the_time_that_the_ranks_answer_is_no_stall(ranks):
    for progress in ranks.progress:
        progress.start(5)
    ranks.wait(LIMIT + 3, 0)  # rank 1 does not look meanwhile; it has been asked
    assert ranks.monitors[0]._asked is not None
    for progress in ranks.progress:
        progress.start(6)
    ranks.wait(10)
    assert ranks.said == []
    ranks.wait(LIMIT + 15)
    assert "in collective 6" in ranks.said[0][1]


def test_a_rank_that_does_not_answer_is_missing(ranks):
    for progress in ranks.progress:
        progress.start(5)
    ranks.wait(LIMIT + 15, 0)
    assert "rank 1 does not answer" in ranks.said[0][1]


def test_a_silent_rank_0_is_told_by_the_others(ranks):
    ranks.progress[1].start(0)
    ranks.wait(2 * LIMIT, 1)
    assert ranks.said == []
    ranks.wait(10, 1)
    speaker, text = ranks.said[0]
    assert speaker == 1
    assert "rank 0 is silent" in text


def test_waiting_for_a_rank_in_a_long_task_is_no_stall(ranks):
    ranks.monitors[1].announce("writing a checkpoint")
    ranks.progress[0].start(0)
    ranks.wait(3 * LIMIT)
    assert ranks.said == []
    ranks.monitors[1].announce(None)
    ranks.wait(LIMIT + 15)
    assert "Missing: rank 1" in ranks.said[0][1]


def test_a_rank_waits_for_rank_0_in_a_long_task_although_that_is_silent(ranks):
    ranks.monitors[0].announce("writing a checkpoint")
    ranks.look(0, 1)
    ranks.progress[1].start(0)
    ranks.wait(4 * LIMIT, 1)
    assert ranks.said == []


def test_another_rank_that_waits_is_told_by_rank_0_that_a_third_is_busy(make_network, monkeypatch):
    ranks = Ranks(make_network(2), monkeypatch)
    ranks.monitors[0]._busy[7] = "reading data"  # as a rank of this number would have announced
    ranks.progress[1].start(0)
    ranks.wait(2 * LIMIT + 50)
    assert ranks.said == []


def leave(ranks, *leaving):
    for rank in leaving:
        ranks.monitors[rank].leave()


@pytest.fixture
def barriers(monkeypatch):
    """Gives the network's communicators a barrier that completes when both ranks have entered it."""
    entered = []

    def ibarrier(comm):
        entered.append(comm.rank)
        return SimpleNamespace(Test=lambda: len(entered) == 2)

    return ibarrier


def test_ranks_end_together(ranks, barriers):
    for comm in ranks.network.comms:
        comm.Ibarrier = lambda comm=comm: barriers(comm)
    leave(ranks, 1)
    ranks.wait(3 * LIMIT)
    assert not ranks.monitors[1].left.is_set()
    leave(ranks, 0)
    ranks.wait(3)
    assert [monitor.left.is_set() for monitor in ranks.monitors] == [True, True]
    assert ranks.said == []


@pytest.mark.parametrize("silent", [0, 1])
def test_a_rank_that_falls_silent_while_the_other_waits_to_end(ranks, silent):
    """Stopped, say. One that is driven by its main thread (not `threaded`) may be silent while it computes."""
    other = 1 - silent
    leave(ranks, other)
    ranks.wait(2 * LIMIT)
    ranks.wait(3 * LIMIT, other)
    assert ranks.said == []
    for monitor in ranks.monitors:
        monitor.threaded = True
    ranks.wait(2 * LIMIT)
    assert ranks.said == []
    ranks.wait(LIMIT + 20, other)
    speaker, text = ranks.said[0]
    assert speaker == other
    assert f"The program of rank {other} is over, but rank {silent} did not end" in text


def test_a_rank_that_is_stopped_in_the_last_barrier(ranks, barriers):
    for comm in ranks.network.comms:
        comm.Ibarrier = lambda comm=comm: barriers(comm)
    leave(ranks, 0, 1)
    ranks.wait(1)
    ranks.wait(LIMIT + 20, 0)
    assert "did not end" in ranks.said[0][1]
