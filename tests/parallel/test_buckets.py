import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.memory import Layout, ParameterSpec
from allgrad.parallel import plan_buckets

DTYPES = [np.dtype("float32"), np.dtype("float64")]

specs = st.lists(
    st.tuples(st.lists(st.integers(0, 40), max_size=3), st.sampled_from(DTYPES), st.integers(0, 2)),
    min_size=1,
    max_size=12,
).map(
    lambda items: [ParameterSpec(f"p{i}", tuple(shape), dtype, group) for i, (shape, dtype, group) in enumerate(items)]
)


@given(specs, st.floats(1e-5, 0.1), st.floats(1e-5, 0.1))
def test_buckets_cover_every_element_once_and_keep_parameters_whole(specs, size, first):
    layout = Layout.plan(specs)
    buckets = plan_buckets(layout, size, first)
    assert [b.index for b in buckets] == list(range(len(buckets)))
    for dtype in layout.dtypes:
        mine = [b for b in buckets if b.dtype == dtype]
        assert [b.start for b in mine] == [0, *(b.stop for b in mine[:-1])]
        assert mine[-1].stop == layout.length(dtype)
    names = [name for b in buckets for name in b.names]
    assert sorted(names) == sorted(spec.name for spec in specs)
    for b in buckets:
        for name in b.names:
            assert b.start <= layout[name].offset
            assert layout[name].stop <= b.stop


@given(specs, st.floats(1e-5, 0.1))
def test_only_the_last_bucket_of_a_dtype_may_be_smaller_than_asked_for(specs, size):
    layout = Layout.plan(specs)
    buckets = plan_buckets(layout, size, size)
    for dtype in layout.dtypes:
        for b in [b for b in buckets if b.dtype == dtype][:-1]:
            assert b.nbytes >= size * 2**20
            # without its last parameter it would have been too small: it was closed at once
            assert (layout[b.names[-1]].offset - b.start) * dtype.itemsize < size * 2**20


def test_the_first_bucket_is_small():
    layout = Layout.plan([ParameterSpec(f"p{i}", (1 << 16,), DTYPES[0]) for i in range(8)])  # 256 KiB each
    assert [len(b.names) for b in plan_buckets(layout, bucket_mb=1, first_mb=0.25)] == [1, 4, 3]


def test_sizes_must_be_positive():
    layout = Layout.plan([ParameterSpec("p", (3,), DTYPES[0])])
    with pytest.raises(ValueError, match="bucket_mb"):
        plan_buckets(layout, bucket_mb=0, first_mb=1)
