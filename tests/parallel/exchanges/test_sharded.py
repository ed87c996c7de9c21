"""Which rank owns what: everything once, about the same amount each, and nothing cut that must stay whole."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad import comm, nn, optim, parallel
from allgrad.memory import Layout, ParameterSpec, aligned_zeros, give_back_pages
from allgrad.optim.norms import BLOCK
from allgrad.parallel.buckets import plan_buckets
from allgrad.parallel.exchanges import ExchangeError
from allgrad.parallel.exchanges.sharded import plan_spans

F = np.dtype(np.float32)


@given(
    st.lists(st.integers(0, 200_000), min_size=1, max_size=12),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from([0.01, 0.3, 9]),
)
def test_spans_cover_every_bucket_and_cut_nothing_that_is_whole(sizes, ranks, whole, bucket_mb):
    layout = Layout.plan([ParameterSpec(f"p{i}", (size,), F) for i, size in enumerate(sizes)])
    buckets = plan_buckets(layout, bucket_mb, bucket_mb)
    allowed = {slot.offset for slot in layout.slots} | {layout.length(F)}
    if not whole:
        allowed |= {edge for slot in layout.slots for edge in range(slot.offset, slot.stop, BLOCK)}
    for bucket, spans in zip(buckets, plan_spans(layout, buckets, ranks, whole=whole), strict=True):
        edges = [0, *(span.stop for span in spans)]
        assert [(span.start, span.stop) for span in spans] == list(itertools.pairwise(edges))
        assert edges[-1] == bucket.stop - bucket.start
        assert {bucket.start + edge for edge in edges} <= allowed
        assert len({span.owner for span in spans}) == len(spans)


@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("whole", [False, True])
def test_all_own_about_the_same(ranks, whole):
    shapes = [(5000, 256)] + [(256, 768), (768,), (256, 256), (256, 1024), (1024, 256), (256,)] * 12
    layout = Layout.plan([ParameterSpec(f"p{i}", shape, F) for i, shape in enumerate(shapes)])
    buckets = plan_buckets(layout, 1, 0.5)
    owned = [0] * ranks
    for spans in plan_spans(layout, buckets, ranks, whole=whole):
        for owner, start, stop in spans:
            owned[owner] += stop - start
    fair = layout.length(F) / ranks
    largest = 5000 * 256 if whole else 0
    assert max(owned) <= max(1.1 * fair, largest)


def test_pages_given_back_read_as_zeros_and_their_neighbours_stay():
    whole = aligned_zeros(1 << 16, np.float32)
    whole[:] = 1
    give_back_pages(whole[1000:60000])
    assert whole[:1000].all()
    assert whole[60000:].all()
    assert 0 <= whole[1000:60000].sum() < 3000


def test_what_it_cannot_do_is_said_at_the_start():
    make = lambda **options: parallel.DataParallel(nn.Linear(3, 2, rng=0), comm.World(), shard="optimizer", **options)  # noqa: E731
    for reduction in ("mpi", "bf16", {"name": "local"}, {"name": "top_k"}):
        with pytest.raises(ExchangeError, match="along the tree of the reduction exact"):
            make(reduction=reduction)
    replica = make()
    with pytest.raises(ExchangeError, match=r"call replica\.attach"):
        replica.step(lambda part: np.sum(replica.model(part)), {0: np.ones((1, 3), np.float32)}, 0)
    with pytest.raises(RuntimeError, match="call attach"):
        replica.update()


def test_one_rank_is_an_ordinary_run():
    def weights(shard):
        model = nn.Linear(3, 2, rng=0)
        replica = parallel.DataParallel(model, comm.World(), virtual_workers=2, shard=shard)
        replica.attach(optim.AdamW(model.parameters(), lr=0.1))
        for step in range(3):
            replica.step(lambda part: np.mean(model(part) ** 2), replica.split(np.ones((4, 3), np.float32)), step)
            replica.update(clip_norm=0.1)
        return [p.value.tobytes() for p in model.parameters()]

    assert weights(None) == weights("optimizer")
