"""The exact text of what the product says when something is wrong: `messages.yaml`, to be read in one sitting.

Each entry has the arguments of `allgrad`, what is done before (`files`: name -> content, written where the command runs), the
exit code, and the message on standard error (without the usage lines of argparse). `{run}` is a finished run, `{config}` its
configuration, `{table}` a finished run on a table, `{here}` the directory where the command runs, `{there}` that of the
configuration. After a deliberate change of words, `UPDATE_MESSAGES=1 pytest tests/messages` writes the file anew.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from notices import without_notices
from small_run import write_config

from allgrad.cli.main import main

FILE = Path(__file__).with_name("messages.yaml")
HOUSES = """
model: {name: mlp, hidden: [4]}
data: {name: csv, path: houses.csv, target: price, numeric: [area], categorical: [heating]}
loss: mse
batch: {size: 8, virtual_workers: 2}
optimizer: {name: adam, lr: 0.01}
train: {steps: 3}
logging: {progress: none}
"""
ENTRIES = yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A directory with `small.yaml`, its data, and its finished run in `run`."""
    place = tmp_path_factory.mktemp("finished")
    config = write_config(place, train={"steps": 12, "early_stopping": None, "eval_every": None})
    assert main(["train", str(config), f"run.dir={place / 'run'}"]) == 0
    lines = [f"{area},{['gas', 'oil'][area % 2]},{1000 * area}" for area in range(50, 80)]
    (place / "houses.csv").write_text("\n".join(["area,heating,price", *lines]))
    (place / "houses.yaml").write_text(HOUSES)
    assert main(["train", str(place / "houses.yaml"), f"run.dir={place / 'table'}"]) == 0
    return place


def said(entry: dict, finished: Path, here: Path, capsys, monkeypatch) -> tuple[int, str]:
    """The exit code and the message of one entry."""
    for name in ("run", "table"):
        shutil.copytree(finished / name, here / name)
    for name, content in entry.get("files", {}).items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            np.savez(path, **{key: np.array(eval_array(value)) for key, value in content.items()})
        else:
            path.write_text(content)
    for name in entry.get("remove", []):
        (here / name).unlink()
    for name, value in entry.get("environment", {}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(here)
    places = {"{config}": str(finished / "small.yaml"), "{there}": str(finished), "{run}": "run", "{table}": "table"}
    words = [re.sub(r"\{\w+\}", lambda match: places[match[0]], word) for word in entry["command"]]
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        code = main(words)
    err = (
        without_notices(capsys.readouterr().err).removeprefix("allgrad: error: ").partition("\nusage:")[0].rstrip("\n")
    )
    err = re.sub(r"at /\S+/allgrad/(\S+):\d+ in", r"at {allgrad}/\1 in", err)
    return code, err.replace(str(here), "{here}").replace(str(finished), "{there}")


def eval_array(text: str) -> np.ndarray:
    """An array from `shape dtype value`, for example "4,2 float32 0.5"."""
    shape, dtype, value = text.split()
    return np.full([int(n) for n in shape.split(",")], float(value) if dtype[0] in "fiub" else value, dtype)


def test_there_are_ninety() -> None:
    assert len(ENTRIES) >= 90
    assert len({entry["name"] for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["name"] for entry in ENTRIES])
def test_the_exact_words(entry, finished, tmp_path, capsys, monkeypatch) -> None:
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    found = said(entry, finished, tmp_path, capsys, monkeypatch)
    if os.environ.get("UPDATE_MESSAGES"):
        entry["exit"], entry["message"] = found
        FILE.write_text(yaml.safe_dump(ENTRIES, sort_keys=False, width=1000, allow_unicode=True))
    assert found == (entry["exit"], entry["message"])
