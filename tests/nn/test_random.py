"""Random streams of layers: a mask's name decides its bits, nothing else does."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn


def draw(path: str = "a", count: int = 7, **name: int) -> list[int]:
    with nn.random_stream(**{"seed": 1, "step": 2, "worker": 3} | name) as stream:
        return stream.words(path, count).tolist()


def test_words_depend_on_every_part_of_the_name_and_on_nothing_else() -> None:
    assert draw() == draw()
    assert len({tuple(w) for w in (draw(), draw(seed=0), draw(step=0), draw(worker=0), draw(path="b"))}) == 5
    assert draw(count=5) == draw(count=7)[:5]


def test_uses_are_counted_by_layer() -> None:
    with nn.random_stream(seed=1, step=2, worker=3) as stream:
        first, other, second = (stream.words(path, 7).tolist() for path in "aba")
    assert first == draw()
    assert other == draw(path="b")
    assert second not in (first, other)


def test_bits_stay_what_they_are() -> None:
    # A checkpoint of today must resume in the same bits tomorrow.
    assert draw(count=2) == [1812509233, 4179846547]


def test_streams_nest_and_threads_do_not_meet() -> None:
    with nn.random_stream(seed=1) as outer:
        with nn.random_stream(seed=2) as inner:
            assert nn.current_stream() is inner
        assert nn.current_stream() is outer
        found = []
        thread = threading.Thread(target=lambda: found.append(nn.current_stream()))
        thread.start()
        thread.join()
    assert found[0] is not outer


def test_recomputation_sees_the_same_words() -> None:
    drawn = []

    def f(x):
        drawn.append(nn.current_stream().words("a", 3).tolist())
        return x * 2

    x = ag.tensor(np.ones(2), requires_grad=True)
    with nn.random_stream(seed=1) as stream:
        stream.words("a", 3)
        y = ag.checkpoint(f)(x)
        after = stream.words("a", 3).tolist()
        np.sum(y).backward()
        assert stream.uses == {"a": 3}
    assert drawn[0] == drawn[1] != after


def test_names_are_integers() -> None:
    with pytest.raises(TypeError, match="step must be an integer"), nn.random_stream(seed=1, step=1.5):
        pass
