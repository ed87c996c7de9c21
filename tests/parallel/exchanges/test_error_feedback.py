"""What lossy exchanges keep for later steps, when a step fails."""

import numpy as np
import pytest
from given_gradients import Given


@pytest.mark.parametrize("reduction", [{"name": "top_k", "fraction": 0.1}, {"name": "power_sgd", "rank": 1}])
@pytest.mark.parametrize("per", ["worker", "rank"])
def test_a_step_that_fails_in_its_backward_pass_changes_no_error(reduction, per):
    ours, other = Given(reduction | {"per": per}), Given(reduction | {"per": per})
    first, lost, last = ours.draw(0), ours.draw(1), ours.draw(2)
    under_way = []

    def fail(_):
        under_way.extend(ours.replica.exchange.posted)
        raise ZeroDivisionError

    ours.step(first)
    with pytest.raises(ZeroDivisionError):
        ours.step(lost, hook=fail)
    assert under_way
    other.step(first)
    for (name, gradient), expected in zip(ours.step(last).items(), other.step(last).values(), strict=True):
        np.testing.assert_array_equal(gradient, expected, err_msg=name)
