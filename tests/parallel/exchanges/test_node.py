"""What `memory: node` does with the arrays of a bucket; tests/mpi/test_node_memory.py has real ranks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from allgrad.parallel.exchanges.node import NodeExchange


def test_arrays_are_read_only_until_the_sum_is_made_or_has_failed():
    array, kept = np.zeros(3), np.zeros(3)
    kept.flags.writeable = False
    seen = []

    def sum_in_memory(kind, additions):
        seen.append(array.flags.writeable)
        if len(seen) == 1:
            raise RuntimeError("a rank has died")
        return 1.0, 2.0

    exchange = NodeExchange(memory=None)
    exchange.world, exchange.handles = SimpleNamespace(nodes=1, sum_in_memory=sum_in_memory), []
    exchange._planned[0,] = None, None
    bucket = SimpleNamespace(index=0, label="0", nbytes=24)
    gradients = SimpleNamespace(views=(array, kept), bucket=bucket)
    exchange.post(gradients, step=5, ready=0.5)
    with pytest.raises(RuntimeError):
        exchange.finish()
    assert (array.flags.writeable, kept.flags.writeable) == (True, False)
    assert exchange.finish() == []
    exchange.post(gradients, step=6, ready=0.5)
    assert exchange.finish() == [("0", 6, 24, 0.5, 1.0, 1.0, 2.0)]
    assert (array.flags.writeable, kept.flags.writeable) == (True, False)
    assert seen == [False, False]
