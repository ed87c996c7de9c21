"""Streams depend only on their name, and their numbers never change."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from allgrad.data.random import permutation, sample_bits, sample_uniform, stream

NAME = {"seed": 1, "step": 2, "worker": 3, "path": "a.b", "use": "mask"}


def test_the_same_name_gives_the_same_numbers_in_another_process() -> None:
    script = f"from allgrad.data.random import stream; print(stream(**{NAME}).bit_generator.random_raw(3).tolist())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(stream(**NAME).bit_generator.random_raw(3).tolist())


def test_every_part_of_the_name_counts() -> None:
    names = [NAME, *({**NAME, part: other} for part, other in zip(NAME, (0, 0, 0, "a.c", "x"), strict=True))]
    names += [{**NAME, "path": "a.bm", "use": "ask"}, {**NAME, "seed": 12, "step": 3}, {**NAME, "seed": -1}]
    words = [int(stream(**name).bit_generator.random_raw()) for name in names]
    assert len(set(words)) == len(names)


def test_numbers_stay_what_they_were() -> None:
    """Written down once: a run must resume under a later version with the same dropout and the same order."""
    assert stream(0).bit_generator.random_raw(2).tolist() == STREAM
    assert permutation(8, seed=0, epoch=0).tolist() == ORDER
    assert sample_bits(0, 1, np.array([5]), 2, "flip").tolist() == BITS


STREAM = [16455215765170946922, 17630135243850102187]
ORDER = [3, 7, 4, 1, 5, 2, 6, 0]
BITS = [[973879535517616211, 56156944317706645]]


@pytest.mark.parametrize("wrong", [{"seed": 1.0}, {"step": "2"}, {"worker": True}])
def test_numbers_must_be_integers(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be an integer"):
        stream(**{**NAME, **wrong})


def test_permutations_are_uniform() -> None:
    counts: dict[tuple[int, ...], int] = dict.fromkeys(itertools.permutations(range(3)), 0)
    for epoch in range(1200):
        counts[tuple(permutation(3, seed=4, epoch=epoch).tolist())] += 1
    assert all(abs(count - 200) < 60 for count in counts.values())  # 4.6 standard deviations


def test_a_samples_numbers_do_not_depend_on_its_neighbours() -> None:
    indices = np.array([7, 0, 123456789, 7])
    whole = sample_bits(3, 1, indices, 4, "shift")
    for row, index in enumerate(indices):
        np.testing.assert_array_equal(whole[row], sample_bits(3, 1, np.array([index]), 4, "shift")[0])
    np.testing.assert_array_equal(whole[:, :2], sample_bits(3, 1, indices, 2, "shift"))
    for other in ((4, 1, "shift"), (3, 2, "shift"), (3, 1, "flip")):
        assert (sample_bits(other[0], other[1], indices, 4, other[2]) != whole).all()


def test_sample_numbers_are_uniform_and_uncorrelated() -> None:
    draws = sample_uniform(0, 0, np.arange(20_000), 3, "use")
    assert draws.shape == (20_000, 3)
    assert 0 <= draws.min() < draws.max() < 1
    for column in draws.T:
        counts = np.histogram(column, bins=20, range=(0, 1))[0]
        assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared, 19 degrees of freedom: p = 1e-4
    neighbours = np.column_stack([draws, np.roll(draws[:, 0], 1)])
    correlation = np.corrcoef(neighbours.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.03
