"""The order of the data, its position, and the cut into virtual workers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.data.sampler import Sampler, cut, evaluation_batches

sizes = st.tuples(st.integers(1, 60), st.integers(1, 25), st.integers(0, 2**40))


@given(st.integers(0, 200), st.integers(1, 40))
def test_the_cut_is_fair_ordered_and_complete(count: int, workers: int) -> None:
    slices = cut(count, workers)
    lengths = [piece.stop - piece.start for piece in slices]
    assert len(slices) == workers
    assert max(lengths) - min(lengths) <= 1
    assert [index for piece in slices for index in range(count)[piece]] == list(range(count))


@given(sizes, st.booleans())
def test_an_epoch_has_every_sample_once(size: tuple[int, int, int], shuffle: bool) -> None:
    samples, batch, seed = size
    sampler = Sampler(samples, batch, seed=seed, shuffle=shuffle)
    for epoch in range(3):
        batches = [sampler.next_batch() for _ in range(sampler.batches_per_epoch)]
        assert [(each.epoch, each.number) for each in batches] == [(epoch, number) for number in range(len(batches))]
        assert {len(each.indices) for each in batches[:-1]} <= {batch}
        assert 0 < len(batches[-1].indices) <= batch
        assert sorted(np.concatenate([each.indices for each in batches]).tolist()) == list(range(samples))


@given(sizes, st.integers(0, 80), st.integers(1, 30))
def test_resume_goes_on_where_it_stopped(size: tuple[int, int, int], before: int, after: int) -> None:
    samples, batch, seed = size
    through = Sampler(samples, batch, seed=seed)
    for _ in range(before):
        through.next_batch()
    resumed = Sampler(samples, batch, seed=seed)
    resumed.load_state_dict(json.loads(json.dumps(through.state_dict())))
    for _ in range(after):
        np.testing.assert_array_equal(through.next_batch().indices, resumed.next_batch().indices)
    assert through.state_dict() == resumed.state_dict()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epochs: int) -> list[int]:
        sampler = Sampler(50, 50, seed=seed)
        return [sampler.next_batch().indices.tolist() for _ in range(epochs)][-1]

    orders = [order(0, 1), order(0, 2), order(1, 1), list(range(50))]
    assert len({tuple(each) for each in orders}) == 4
    assert order(0, 1) == orders[0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"samples": 11}, "saved with samples = 11, but this run has 10"),
        ({"size": 4}, "saved with size = 4, but this run has 3"),
        ({"seed": 1}, "saved with seed = 1"),
        ({"shuffle": False}, "saved with shuffle = False"),
        ({"batch": 4}, r"batch in 0\.\.3"),
        ({"epoch": -1}, "epoch >= 0"),
        ({"extra": 0}, "expected the keys"),
    ],
)
def test_a_position_in_other_data_is_refused(change: dict[str, int], match: str) -> None:
    sampler = Sampler(10, 3, seed=0)
    sampler.next_batch()
    before = sampler.state_dict()
    with pytest.raises(ValueError, match=match):
        sampler.load_state_dict({**before, **change})
    assert sampler.state_dict() == before


@given(st.integers(0, 50), st.integers(1, 20))
def test_evaluation_covers_each_sample_once(count: int, size: int) -> None:
    batches = list(evaluation_batches(count, size))
    assert [index for batch in batches for index in batch.tolist()] == list(range(count))
    assert all(0 < len(batch) <= size for batch in batches)


@pytest.mark.parametrize("make", [lambda: Sampler(0, 1, seed=0), lambda: Sampler(1, 0, seed=0), lambda: cut(3, 0)])
def test_zero_samples_sizes_and_workers_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"at least 1|>= 1"):
        make()  # type: ignore[operator]
