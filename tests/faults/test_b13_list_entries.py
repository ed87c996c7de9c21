"""An override that addresses one entry of a list is one clear error."""

from __future__ import annotations

import pytest
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.config import ConfigError, resolve


@pytest.mark.parametrize("override", ["model.hidden.0=3", "model.hidden.0.x=3", "optimizer.no_decay.0=a"])
def test_it_says_how_a_list_is_given(tmp_path, override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(write_config(tmp_path), [override])
    (line,) = str(caught.value).splitlines()
    key = ".".join(override.split(".")[:2])
    assert line.startswith(f"command line: {key}: expected a list, got {{'0': ")
    assert f"A list is given as a whole, for example {key}=[1, 2]." in line


def test_the_command_has_no_traceback(tmp_path, capsys) -> None:
    assert main(["train", str(write_config(tmp_path)), "model.hidden.0=3"]) == 2
    assert "Traceback" not in capsys.readouterr().err
