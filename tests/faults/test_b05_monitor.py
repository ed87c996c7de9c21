"""The monitored metric could change at a resume, and its values were compared with those of the old one."""

from __future__ import annotations

import pytest
from runs import resume, train
from small_run import write_config

from allgrad.errors import UsageError


@pytest.mark.parametrize("override", ["train.monitor.metric=r2", "train.monitor.mode=max"])
def test_it_stays(tmp_path, override) -> None:
    config = write_config(tmp_path, train={"steps": 4, "early_stopping": None})
    train(config, tmp_path / "run")
    key = override.partition("=")[0]
    with pytest.raises(UsageError, match=rf"Cannot resume .*\n  {key} \(saved: .*, requested: "):
        resume(tmp_path / "run", override, "train.steps=6")
    assert resume(tmp_path / "run", "train.steps=6")["steps"] == 6
