"""The time left, against runs whose length is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from allgrad.train.loggers.pace import Pace

COMPILING = 40.0


def simulate(steps: int, eval_every: int | None, step_seconds, eval_seconds: float, guess: float):
    """(step, estimate, truth) at the end of each step of a run, before its evaluation."""
    pace = Pace(steps, eval_every=eval_every, evaluation_in_steps=guess)
    durations = [step_seconds(number) for number in range(1, steps + 1)]
    durations[0] += COMPILING
    evaluated = [number == steps or number % (eval_every or steps) == 0 for number in range(1, steps + 1)]
    costs = [seconds + eval_seconds * after for seconds, after in zip(durations, evaluated, strict=True)]
    for number, seconds in enumerate(durations, start=1):
        pace.step(seconds)
        yield number, pace.seconds_left(number), costs[number - 1] - seconds + sum(costs[number:])
        if evaluated[number - 1]:
            pace.evaluation(eval_seconds)


@pytest.mark.parametrize(("steps", "eval_every"), [(400, 100), (400, None), (50, 7), (3, 1)])
def test_it_is_right_from_the_second_step_on(steps, eval_every) -> None:
    for number, estimate, truth in simulate(steps, eval_every, lambda n: 0.2, eval_seconds=2.0, guess=10.0):
        assert (estimate is None) == (number == 1)
        assert estimate is None or estimate == pytest.approx(truth, rel=1e-6, abs=1e-6)


def test_a_guess_that_is_wrong_by_half_is_wrong_by_little() -> None:
    steps = 1000
    for number, estimate, truth in simulate(steps, 250, lambda n: 0.2, eval_seconds=2.0, guess=5.0):
        if 1 < number < steps:
            assert 0.9 * truth < estimate < 1.1 * truth


def test_noise_and_interruptions_do_not_make_it_wild() -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.8, 1.2, 1001)

    def seconds(number: int) -> float:
        return noise[number] * 0.1 + (1.0 if number % 200 == 50 else 0.0)

    found = [(e, t) for n, e, t in simulate(1000, None, seconds, 0.0, 0.0) if 2 < n < 900]
    assert all(0.7 * truth < estimate < 1.3 * truth for estimate, truth in found)
    steady = [(e, t) for e, t in found[5:]]
    jumps = [abs(after[0] - before[0]) / before[0] for before, after in itertools.pairwise(steady)]
    assert max(jumps) < 0.1


def test_a_change_of_pace_is_followed() -> None:
    found = {n: (e, t) for n, e, t in simulate(1000, None, lambda n: 0.1 if n < 300 else 0.2, 0.0, 0.0)}
    estimate, truth = found[450]
    assert estimate == pytest.approx(truth, rel=0.01)
