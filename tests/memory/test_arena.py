"""Properties that every layout has, whatever the parameters are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.memory import ALIGNMENT, Arena, Layout, ParameterSpec, aligned_zeros

F4, F8 = np.dtype("float32"), np.dtype("float64")
one_spec = st.tuples(st.lists(st.integers(0, 7), max_size=3).map(tuple), st.sampled_from([F4, F8]), st.integers(0, 3))
specs_lists = st.lists(one_spec, max_size=12).map(
    lambda items: [ParameterSpec(f"p{i}", shape, dtype, group) for i, (shape, dtype, group) in enumerate(items)]
)


@given(specs_lists)
def test_slots_are_disjoint_aligned_and_inside_their_segment(specs):
    layout = Layout.plan(specs)
    assert [slot.name for slot in layout.slots] == [spec.name for spec in specs]
    for dtype in layout.dtypes:
        used = np.zeros(layout.length(dtype), int)
        for slot in layout.in_memory_order(dtype):
            assert slot.offset * dtype.itemsize % ALIGNMENT == 0
            used[slot.offset : slot.stop] += 1
            [segment] = [s for s in layout.segments if s.dtype == dtype and s.group == slot.group]
            assert segment.start <= slot.offset <= slot.stop <= segment.stop
        assert used.max(initial=0) <= 1


@given(specs_lists)
def test_segments_tile_each_flat_array(specs):
    layout = Layout.plan(specs)
    for dtype in layout.dtypes:
        segments = [s for s in layout.segments if s.dtype == dtype]
        assert [s.start for s in segments] == [0, *(s.stop for s in segments[:-1])]
        assert segments[-1].stop == layout.length(dtype)
        assert len({s.group for s in segments}) == len(segments)


@given(specs_lists)
def test_a_group_lies_in_reverse_order_of_registration(specs):
    layout = Layout.plan(specs)
    for segment in layout.segments:
        members = [s for s in layout.slots if s.dtype == segment.dtype and s.group == segment.group]
        offsets = [slot.offset for slot in members]
        assert offsets == sorted(offsets, reverse=True)
        # Padding is never more than what alignment asks for.
        tight = sum(-(-s.size * s.dtype.itemsize // ALIGNMENT) * ALIGNMENT for s in members)
        assert (segment.stop - segment.start) * segment.dtype.itemsize == tight


@given(specs_lists)
def test_views_write_their_own_elements_and_leave_the_padding_zero(specs):
    arena = Arena(Layout.plan(specs))
    for number, spec in enumerate(specs, start=1):
        arena[spec.name][...] = number
        assert arena[spec.name].shape == spec.shape
    for number, spec in enumerate(specs, start=1):
        assert (arena[spec.name] == number).all()
    total = sum(int(flat.astype(np.float64).sum()) for flat in arena.flat.values())
    assert total == sum(number * int(np.prod(spec.shape)) for number, spec in enumerate(specs, start=1))


@given(specs_lists, specs_lists)
def test_digest_tells_layouts_apart_and_is_stable(a, b):
    assert Layout.plan(a).digest() == Layout.plan(list(a)).digest()
    assert (Layout.plan(a).digest() == Layout.plan(b).digest()) == (a == b)


def test_digest_is_the_same_on_every_machine():
    layout = Layout.plan([ParameterSpec("w", (3, 5), F4), ParameterSpec("b", (5,), F4, 1)])
    assert layout.digest() == "027da53ede5a5a3db1d6c690447e6a552be30a84e1bf7adc752fbbbbb71f395d"


def test_lookups():
    layout = Layout.plan([ParameterSpec("w", (3, 5), F4), ParameterSpec("b", (5,), F4)])
    assert layout["w"].offset == 16
    assert "w" in layout
    assert "x" not in layout
    assert len(layout) == 2
    assert layout.end(layout["b"]) == layout["w"].offset
    assert layout.length(F8) == 0
    assert Arena(layout).nbytes == 32 * 4


def test_refusals():
    with pytest.raises(ValueError, match="two parameters are named 'w'"):
        Layout.plan([ParameterSpec("w", (1,), F4), ParameterSpec("w", (2,), F4)])
    with pytest.raises(ValueError, match="which flat memory cannot hold"):
        Layout.plan([ParameterSpec("w", (1,), np.dtype(object))])
    layout = Layout.plan([ParameterSpec("w", (20,), F4)])
    with pytest.raises(ValueError, match=r"asked for a contiguous float32 array of shape \(32,\)"):
        Arena(layout, lambda n, dtype: np.zeros(n + 1, dtype))
    with pytest.raises(ValueError, match="64-byte boundary"):
        Arena(layout, lambda n, dtype: aligned_zeros(n + 1, dtype)[1:])
