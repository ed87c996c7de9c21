"""Configurations that come with allgrad are found by name, in a clone and after `pip install`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from allgrad.train.config import resolve

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_package_has_what_the_clone_has(name: str) -> None:
    assert resolve(f"package:{name}").model_dump() == resolve(ROOT / "configs" / name).model_dump()


def test_a_file_may_extend_one_of_them(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: package:diamonds.yaml\nseed: 7\n")
    assert (resolve(path).seed, resolve(path).data.name) == (7, "csv")


@pytest.mark.skipif("ALLGRAD_WHEEL" not in os.environ, reason="builds a wheel; set ALLGRAD_WHEEL=1")
def test_a_wheel_contains_them(tmp_path) -> None:
    source = tmp_path / "source"  # a copy, because the build writes beside what it builds
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"allgrad/configs/{name}" for name in NAMES} <= set(names)
