"""What cannot be combined with a gradient exchange is refused before a run starts. (What can be: tests/mpi/test_exchanges.py.)"""

from __future__ import annotations

import pytest
from combinations import CHOICES, overrides, refused, register, write
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from allgrad.train.config import ConfigError, resolve


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
