"""MPICH's report of a stall died of a segmentation fault when a host was gone: a send to it, 30 seconds later, ends the process.

So rank 0 says which ranks are silent before it sends anything.
"""

from __future__ import annotations

from types import SimpleNamespace

from allgrad.comm import failure, stall_monitor


class Silent:
    """A request that is never completed."""

    def Test(self) -> bool:
        return False


def test_the_silent_rank_is_named_first(monkeypatch) -> None:
    happened: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(stall_monitor.time, "monotonic", lambda: clock[0])

    def isend(buffer, rank, tag):
        happened.append("sent")
        return Silent()

    comm = SimpleNamespace(Irecv=lambda *_: Silent(), Isend=isend)
    waiting = SimpleNamespace(number=0, describe=lambda: "an all-reduce")
    progress = SimpleNamespace(posted=1, finished=0, moves=0, unfinished=lambda: waiting)
    topology = SimpleNamespace(rank=0, size=2, host="here")
    monitor = stall_monitor.StallMonitor(progress, topology, comm, limit=100.0)
    monitor._heard[1] = (0.0, {})
    monkeypatch.setattr(failure, "end", lambda topology, text: happened.append("ended"))
    monkeypatch.setattr(stall_monitor._log, "error", lambda text, *values: happened.append(text % values))
    for _ in range(110):
        clock[0] += 1.0
        monitor.tick()
    assert happened[0].startswith("No heartbeat from rank 1 for ")
    assert happened[1] == "sent"
