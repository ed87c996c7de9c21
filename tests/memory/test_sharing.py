"""Shares of an arena, and flat memory that several processes share: here, one after another in one process."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import allgrad as ag
from allgrad.autodiff.errors import AssignmentError
from allgrad.memory import Layout, ParameterSpec, Private, aligned_zeros, flatten, share_of

SPECS = st.lists(
    st.tuples(st.integers(0, 300), st.sampled_from(["float32", "float64"]), st.integers(0, 2)), min_size=1, max_size=12
)


@given(SPECS, st.integers(1, 9), st.booleans())
def test_the_shares_cover_an_arena_once(specs, ranks, whole):
    layout = Layout.plan([ParameterSpec(str(i), (n,), np.dtype(d), g) for i, (n, d, g) in enumerate(specs)])
    for dtype in layout.dtypes:
        shares = [share_of(layout, rank, ranks, whole=whole)[dtype] for rank in range(ranks)]
        edges = [0, *(stop for _, stop in shares)]
        assert [start for start, _ in shares] == edges[:-1]
        assert edges == sorted(edges)
        assert edges[-1] == layout.length(dtype)
        assert all(edge * dtype.itemsize % 64 == 0 for edge in edges)
        if whole:
            assert set(edges) <= {slot.offset for slot in layout.in_memory_order(dtype)} | {layout.length(dtype)}


class Two(Private):
    """Two processes, of which this is the second: the first one's numbers are there already."""

    rank, ranks = 1, 2

    def __init__(self):
        self.arrays, self.barriers = [], 0

    def allocate(self, length, dtype):
        self.arrays.append(aligned_zeros(length, dtype))
        self.arrays[-1][:] = 5
        return self.arrays[-1]

    def add_up(self, values):
        return values + values[::-1]  # the first process has one of two parameters, and finds the same there

    def barrier(self):
        self.barriers += 1


def test_leaves_take_the_first_process_s_values_and_are_read_only():
    w = ag.tensor([1.0, 2.0], requires_grad=True)
    sharing = Two()
    flat = flatten([w], sharing=sharing)
    assert w.tolist() == [5.0, 5.0]
    assert sharing.barriers == 1
    with pytest.raises(AssignmentError, match="read-only"):
        w.assign([1.0, 2.0])
    with flat.writing():
        w.assign([1.0, 2.0])
        assert sharing.barriers == 2
    assert (w.tolist(), sharing.barriers) == ([1.0, 2.0], 3)
    with pytest.raises(AssignmentError, match="read-only"):
        w.assign([3.0, 4.0])


def test_an_update_touches_the_own_share_only():
    leaves = [ag.tensor(np.ones(64, np.float32), requires_grad=True) for _ in range(2)]
    flat = flatten(leaves, sharing=Two())
    flat.grads.flat[np.dtype("float32")][:] = 1
    for leaf in leaves:
        leaf.node.filled = True
    optimizer = ag.optim.SGD(leaves, lr=1.0)
    optimizer.step()
    assert flat.params.flat[np.dtype("float32")].tolist() == [5.0] * 64 + [4.0] * 64
    assert optimizer.steps == {"parameter0": 1, "parameter1": 1}
    ag.optim.clip_norm(flat, 1.0)
    first, second = np.split(flat.grads.flat[np.dtype("float32")], 2)
    assert (first == 1).all()
    assert (second < 0.1).all()
