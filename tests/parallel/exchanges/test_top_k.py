"""Top-k with error feedback against a plain statement of Mem-SGD, written from the paper."""

import math

import numpy as np
import pytest
from given_gradients import Given

from allgrad.errors import OptionError
from allgrad.parallel.exchanges.top_k import TopKExchange, largest


def plain(rows_of_steps, fraction, feedback):
    """Stich et al., algorithm 1, for several workers: yields each step's sum of what the workers sent."""
    memory = {}
    for rows in rows_of_steps:
        sent = {}
        for name, each in rows.items():
            workers = len(each)
            total = np.zeros(each[0].size)
            for w in range(workers):
                corrected = each[w].reshape(-1) / workers + memory.get((name, w), 0)
                order = sorted(range(corrected.size), key=lambda i, p=corrected: (-abs(p[i]), i))
                chosen = order[: math.ceil(fraction * corrected.size)]
                message = np.zeros_like(corrected)
                message[chosen] = corrected[chosen]
                memory[name, w] = corrected - message if feedback else 0
                total += message
            sent[name] = total.reshape(each[0].shape)
        yield sent


@pytest.mark.parametrize("feedback", [True, False])
def test_equals_the_paper_step_by_step(feedback):
    ours = Given({"name": "top_k", "fraction": 0.1, "error_feedback": feedback})
    rows = [ours.draw(step) for step in range(6)]
    for step, expected in zip(rows, plain(rows, 0.1, feedback), strict=True):
        found = ours.step(step)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_all_entries_are_the_whole_gradient():
    ours = Given({"name": "top_k", "fraction": 1.0}, dtype=np.float32)
    rows = ours.draw(0)
    for name, gradient in ours.step(rows).items():
        np.testing.assert_allclose(gradient, rows[name].mean(0), rtol=1e-5, atol=1e-6)


def test_of_equal_entries_those_that_come_first():
    values = np.array([2.0, -1.0, 1.0, 1.0, -2.0, 1.0])
    assert largest(values, 4).tolist() == [0, 1, 2, 4]
    assert largest(np.zeros(5), 2).tolist() == [0, 1]
    assert largest(np.array([1.0, np.nan, 3.0]), 1).tolist() == [1]  # or the check for NaN would not see it


def test_a_step_that_is_not_finite_changes_no_error():
    ours, other = Given({"name": "top_k", "fraction": 0.1}), Given({"name": "top_k", "fraction": 0.1})
    first, bad, last = ours.draw(0), ours.draw(1), ours.draw(2)
    bad["w"][2, 3, 3] = np.inf
    ours.step(first)
    assert not np.isfinite(ours.step(bad)["w"]).all()
    other.step(first)
    for (name, gradient), expected in zip(ours.step(last).items(), other.step(last).values(), strict=True):
        np.testing.assert_array_equal(gradient, expected, err_msg=name)


def test_what_is_out_of_range_is_refused():
    for wrong in ({"fraction": 0.0}, {"fraction": 1.5}, {"per": "host"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            TopKExchange(**wrong)
