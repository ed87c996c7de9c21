"""Trap 25. Different code, configuration or initial weights on one rank: found at the start, by name."""

from __future__ import annotations

import pytest
from small_run import write_config

PLUGIN = """
import numpy as np
from allgrad import comm, nn
from allgrad.train import register_model

@register_model("of_this_rank")
def of_this_rank(info, rng):
    return nn.models.MLP([6, 8, 1], rng=comm.init().rank)
"""


def train_differently(folder, what):
    from pathlib import Path

    from allgrad import comm
    from allgrad.train import facts
    from allgrad.train.launch import Options, new_run

    odd = comm.init().rank == 1
    config, overrides, plugins = Path(folder, "small.yaml"), [f"run.dir={folder}/run"], []
    if what == "configuration" and odd:
        overrides.append("optimizer.lr=0.02")
    if what == "code" and odd:
        facts._code = lambda package: "another version"
    if what == "plugins":
        plugins = [Path(folder, "odd.py" if odd else "plugin.py")]
    if what == "weights":
        plugins = [Path(folder, "plugin.py")]
        overrides += ["model.name=of_this_rank"]
    new_run(config, overrides, Options(plugins=plugins))


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("configuration", "configuration: "),
        ("code", "allgrad's code: "),
        ("plugins", "plugins: "),
        ("weights", "initial weights layers.0.weight: "),
    ],
)
def test_what_differs_and_where_is_named(mpirun, tmp_path, what, named) -> None:
    write_config(tmp_path)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "odd.py").write_text(PLUGIN + "# another version\n")
    job = mpirun(train_differently, 3, str(tmp_path), what, check=False)
    assert job.code != 0
    assert "The ranks of this job must agree, and do not:" in job.stderr
    (line,) = [line for line in job.stderr.splitlines() if named in line]
    if what == "weights":
        assert all(f"rank {rank}" in line for rank in range(3))
    else:
        assert "ranks 0, 2" in line
        assert "on rank 1" in line
    assert not (tmp_path / "run").exists()
