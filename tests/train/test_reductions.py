"""What cannot be combined with a gradient exchange is refused before a run starts. (What can be: tests/mpi/test_exchanges.py.)"""

from __future__ import annotations

import numpy as np
import pytest
from combinations import CHOICES, overrides, refused, register, write
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from allgrad.train.config import ConfigError, resolve
from allgrad.train.run.build import Options, new_run


@pytest.fixture(scope="module")
def configuration(tmp_path_factory):
    return write(tmp_path_factory.mktemp("combinations"))


choices = st.fixed_dictionaries({key: st.sampled_from(values) for key, values in CHOICES.items()})


@given(choice=choices.filter(refused))
@settings(max_examples=10, phases=[Phase.generate])
def test_what_cannot_be_combined_is_named(configuration, choice):
    register()
    with pytest.raises(ConfigError) as caught:
        resolve(configuration, overrides(choice))
    assert all(f": {key}: " in str(caught.value) for key in refused(choice))


def test_a_skipped_step_ends_a_round_of_local_updates_all_the_same(configuration, tmp_path):
    """Without that, the last round would not be complete at the end of the run, and what it learned would be lost."""
    register()
    local = {"parallel.reduction": "{name: local, inner_steps: 2}", "train.nonfinite": "skip"}
    trainer, run = new_run(configuration, [*overrides(local), f"run.dir={tmp_path / 'run'}"], Options(single=True))
    found = trainer.run(run)
    assert found["skipped_steps"] == [3]
    exchange = trainer.replica.exchange
    assert exchange.done == found["steps"] == 6
    theta = trainer.replica.flat.params.flat
    assert all(
        np.array_equal(w.flat[d], theta[d]) for w in exchange.weights.values() for d in theta
    )  # averaged just now
