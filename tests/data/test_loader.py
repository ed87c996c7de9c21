"""Prefetched batches: the same at any rank count; position, errors and end."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allgrad.data import ArrayDataset, Batch, DataError, Loader, Sampler

if TYPE_CHECKING:
    from collections.abc import Callable


class Watched(ArrayDataset):
    """Counts its calls, and fails at one sample."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        super().__init__({"inputs": np.arange(count), "wide": np.arange(2.0 * count).reshape(count, 2)})
        self.asked = 0
        self.fail_at = fail_at

    def batch(self, indices: np.ndarray, *, epoch: int = 0) -> Batch:
        self.asked += 1
        if self.fail_at is not None and self.fail_at in indices:
            raise OSError(f"sample {self.fail_at} cannot be read")
        return super().batch(indices, epoch=epoch)


def loader(count: int = 23, size: int = 8, workers: Any = range(4), virtual_workers: int = 4, **options: Any) -> Loader:
    dataset = options.pop("dataset", None) or Watched(count)
    shuffle = options.pop("shuffle", True)
    return Loader(
        dataset,
        Sampler(count, size, seed=5, shuffle=shuffle),
        workers=workers,
        virtual_workers=virtual_workers,
        **options,
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait until the loader's thread has made the condition true."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "the condition never became true"
        time.sleep(0.001)


def micro_batches(batch: Any) -> list[list[int]]:
    stops = np.cumsum(batch.lengths).tolist()
    return [batch.arrays["inputs"][a:b].tolist() for a, b in pairwise([0, *stops])]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 6), st.data())
def test_workers_see_the_same_at_any_rank_count(
    count: int, size: int, virtual_workers: int, data: st.DataObject
) -> None:
    ranks = data.draw(st.integers(1, virtual_workers))
    with loader(count, size, range(virtual_workers), virtual_workers, prefetch=0) as whole:
        expected = [micro_batches(next(whole)) for _ in range(7)]
    found: list[list[list[int]]] = [[] for _ in range(7)]
    for rank in range(ranks):
        mine = range(rank * virtual_workers // ranks, (rank + 1) * virtual_workers // ranks)
        with loader(count, size, mine, virtual_workers, prefetch=2) as one:
            for step in range(7):
                found[step] += micro_batches(next(one))
    assert found == expected


def test_a_rank_without_samples_has_arrays_of_the_right_kind() -> None:
    with loader(count=2, size=8) as few, loader(count=2, size=8, workers=[0]) as first:
        batch, empty = next(few), next(first)
    assert (batch.samples, batch.lengths) == (2, (0, 1, 0, 1))
    assert (empty.samples, empty.lengths) == (2, (0,))
    assert empty.arrays["wide"].shape == (0, 2)
    assert empty.arrays["wide"].dtype == np.float64


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_read_only(prefetch: int) -> None:
    with loader(prefetch=prefetch) as one:
        assert not any(array.flags.writeable for array in next(one).arrays.values())


def test_the_position_counts_what_was_consumed() -> None:
    with loader(prefetch=4) as ahead, loader(prefetch=0) as behind:
        assert ahead.state_dict() == behind.state_dict()
        for _ in range(5):
            assert micro_batches(next(ahead)) == micro_batches(next(behind))
            until(ahead._prefetcher._queue.full)  # the thread runs ahead
            assert ahead.state_dict() == behind.state_dict()


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 7])
def test_resume_inside_an_epoch(prefetch: int, stop: int) -> None:
    with loader(prefetch=prefetch) as through:
        for _ in range(stop):
            next(through)
        state = json.loads(json.dumps(through.state_dict()))
        rest = [micro_batches(next(through)) for _ in range(5)]
        through.load_state_dict(state)  # back, with batches prefetched
        assert [micro_batches(next(through)) for _ in range(5)] == rest
    with loader(workers=range(1, 3), prefetch=prefetch) as resumed:  # another rank count
        resumed.load_state_dict(state)
        assert [micro_batches(next(resumed)) for _ in range(5)] == [step[1:3] for step in rest]


def test_a_refused_position_leaves_the_loader_where_it_was() -> None:
    with loader() as one, loader() as other:
        next(one), next(other)
        until(one._prefetcher._queue.full)
        with pytest.raises(ValueError, match="saved with samples"):
            one.load_state_dict({**one.state_dict(), "samples": 99})
        assert micro_batches(next(one)) == micro_batches(next(other))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_surfaces_at_its_batch_and_stays(prefetch: int) -> None:
    dataset = Watched(23, fail_at=12)
    with loader(dataset=dataset, shuffle=False, prefetch=prefetch) as failing:
        assert next(failing).samples == 8
        state = failing.state_dict()
        for _ in range(2):
            with pytest.raises(OSError, match="sample 12 cannot be read") as caught:
                next(failing)
        assert any(entry.name == "batch" for entry in caught.traceback)
        assert failing.state_dict() == state
        until(lambda: all(thread.name != "allgrad-loader" for thread in threading.enumerate()))
        assert dataset.asked == 3  # one call per batch, one more for the first sample alone, and none after the failure


class Padded(ArrayDataset):
    """Sequences of different lengths, padded up to the longest one of a batch."""

    def batch(self, indices: np.ndarray, *, epoch: int = 0) -> Batch:
        return {"inputs": np.ones((len(indices), max([0, *indices])))}


class Drawn(ArrayDataset):
    """Noise from a generator that all calls share."""

    rng = np.random.default_rng(0)

    def batch(self, indices: np.ndarray, *, epoch: int = 0) -> Batch:
        return {"inputs": self.rng.standard_normal(len(indices))}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Padded,
            r"'inputs' is float64 \(1, 0\) on its own, and float64 \(1, 7\) in a batch of 8\. .* pad all samples to one length",
        ),
        (Drawn, r"'inputs' has other values on its own than in a batch of 8\. A sample must be the same in any batch"),
    ],
)
def test_a_sample_that_depends_on_its_batch_is_refused(kind: type[ArrayDataset], message: str) -> None:
    dataset = kind({"inputs": np.zeros(23)})
    with loader(dataset=dataset, shuffle=False) as dependent, pytest.raises(DataError, match=message):
        next(dependent)


def test_a_sample_may_be_nan() -> None:
    with loader(dataset=ArrayDataset({"inputs": np.full(23, np.nan)})) as missing:
        assert np.isnan(next(missing).arrays["inputs"]).all()


def test_prefetching_is_bounded() -> None:
    dataset = Watched(23)
    with loader(dataset=dataset, workers=[0], prefetch=2) as bounded:
        next(bounded)
        until(lambda: dataset.asked == 1 + 1 + 2 + 1)  # the check, consumed, in the queue, in the thread's hands
        time.sleep(0.1)
        assert dataset.asked == 1 + 1 + 2 + 1


@pytest.mark.parametrize("consumed", [0, 1, 4])
def test_the_end_is_clean(consumed: int) -> None:
    def alive() -> int:
        return sum(thread.name == "allgrad-loader" for thread in threading.enumerate())

    before = alive()
    one = loader(prefetch=1)
    for _ in range(consumed):
        next(one)
    one.close()
    one.close()
    assert alive() == before
    with pytest.raises(RuntimeError, match="closed"):
        next(one)


def test_no_thread_without_prefetching() -> None:
    before = set(threading.enumerate())
    with loader(prefetch=0) as one:
        next(one)
        assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("options", [{"workers": [4]}, {"workers": [-1]}, {"prefetch": -1}])
def test_bad_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"workers must be in 0\.\.3|prefetch must be at least 0"):
        loader(**options)
