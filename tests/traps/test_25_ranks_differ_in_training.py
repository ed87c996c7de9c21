"""Trap 25, as the trainer meets it: different code, configuration or plugins on one rank are found at the start, by name."""

from __future__ import annotations

import pytest
from small_run import write_config


def train_differently(folder, what):
    from pathlib import Path

    from allgrad import comm
    from allgrad.train.run import provenance
    from allgrad.train.run.build import Options, new_run

    odd = comm.init().rank == 1
    config, overrides, plugins = Path(folder, "small.yaml"), [f"run.dir={folder}/run"], []
    if what == "configuration" and odd:
        overrides.append("optimizer.lr=0.02")
    if what == "code" and odd:
        provenance._code = lambda package: "another version"
    if what == "plugins":
        plugins = [Path(folder, "odd.py" if odd else "plugin.py")]
    new_run(config, overrides, Options(plugins=plugins))


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("configuration", "configuration: "),
        ("code", "allgrad's code: "),
        ("plugins", "plugins: "),
    ],
)
def test_what_differs_and_where_is_named(mpirun, tmp_path, what, named) -> None:
    write_config(tmp_path)
    (tmp_path / "plugin.py").write_text("# nothing\n")
    (tmp_path / "odd.py").write_text("# another version of it\n")
    job = mpirun(train_differently, 3, str(tmp_path), what, check=False)
    assert job.code != 0
    assert "The ranks of this job differ in what must be the same on all of them:" in job.stderr
    (line,) = [line for line in job.stderr.splitlines() if named in line]
    assert "ranks 0, 2" in line
    assert "on rank 1" in line
    assert not (tmp_path / "run").exists()
