"""A clone's launch/ folder with fake programs in place of its environment, so that no test installs or starts anything."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"


@dataclass
class Clone:
    """`root` is the clone; `bin` its environment's programs; `calls` what was started, each with what it was given."""

    root: Path
    bin: Path

    def program(self, name: str, body: str = "", folder: Path | None = None) -> None:
        """Put a shell script there that notes its call and then runs `body`."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> "{self.root}/calls"\n{body}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def run(
        self, script: str, *arguments: str, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `launch/<script>` in an environment of nothing but PATH and HOME."""
        return subprocess.run(
            [str(self.root / "launch" / script), *arguments],
            cwd=cwd or self.root,
            env={"PATH": f"{self.root}/system:{os.defpath}", "HOME": str(self.root), **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone whose environment for MPICH is up to date and made of fakes."""
    shutil.copytree(LAUNCH, tmp_path / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "run.yaml").write_text("seed: 1\n")
    made = Clone(tmp_path, tmp_path / ".venv" / "bin")
    made.program("mpirun", "[ \"$1\" != --version ] || echo 'HYDRA build details'")
    made.program("allgrad")
    made.program("python")
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "python3").symlink_to(sys.executable)
    stamp(made, ["mpich", "dev"])
    return made


def stamp(clone: Clone, extras: list[str], folder: str = ".venv") -> None:
    """Mark an environment as installed from what lies in the clone now."""
    parts = [
        (clone.root / "pyproject.toml").read_bytes(),
        (clone.root / "launch" / "constraints.txt").read_bytes(),
        os.fsencode(clone.root.resolve()),
    ]
    content = {"fingerprint": hashlib.sha256(b"\0".join(parts)).hexdigest(), "extras": extras}
    (clone.root / folder / "allgrad-ready.json").write_text(json.dumps(content))


@pytest.fixture
def environment(clone: Clone):
    """`launch/environment.py` of the clone, as a module, that notes the steps of an installation and fakes `venv`."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("launch_environment", clone.root / "launch" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.steps = []

    def run(*command: str | Path) -> None:
        module.steps.append([str(part) for part in command])
        if command[1:3] == ("-m", "venv"):
            (Path(command[3]) / "bin").mkdir()
            (Path(command[3]) / "bin" / "python").symlink_to(sys.executable)

    module.genuine_run, module.run = module.run, run
    return module
