"""launch/environment.py: what is installed, when nothing is, and what an interrupted call leaves to the next one."""

from __future__ import annotations

import re
import sys
import threading
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def call(environment, monkeypatch):
    """Call environment.py's `main` with arguments; returns the exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["setup.sh", *arguments])
        return environment.main()

    return run


def editable(environment) -> str:
    return environment.steps[-1][-1]


def test_an_up_to_date_environment_is_left_alone(environment, call) -> None:
    assert call() == 0
    assert call("--extras", "dev") == 0
    assert environment.steps == []


def test_a_new_extra_is_added_and_the_old_ones_stay(environment, call, clone) -> None:
    assert call("--extras", "fast") == 0
    assert editable(environment) == f"{clone.root}[dev,fast,mpich]"
    assert not any("venv" in step for step in environment.steps)
    assert call("--extras", "dev,fast") == 0
    assert len(environment.steps) == 2


@pytest.mark.parametrize("file", ["pyproject.toml", "launch/constraints.txt"])
def test_a_change_of_what_it_was_made_from_installs_again(environment, call, clone, file) -> None:
    (clone.root / file).write_text((clone.root / file).read_text() + "\n# changed\n")
    assert call() == 0
    assert editable(environment) == f"{clone.root}[dev,mpich]"


def test_every_step_is_held_to_the_constraints_and_builds_nothing_in_isolation(environment, call, clone) -> None:
    call("--mpi", "openmpi")
    venv, setuptools, project = environment.steps
    assert venv == [sys.executable, "-m", "venv", str(clone.root / ".venv-openmpi")]
    for step in (setuptools, project):
        assert step[:4] == [str(clone.root / ".venv-openmpi/bin/python"), "-m", "pip", "install"]
        assert step[step.index("-c") + 1] == str(clone.root / "launch/constraints.txt")
    assert "--no-build-isolation" in project
    assert project[-1] == f"{clone.root}[openmpi]"


def test_the_systems_mpi_needs_no_wheel(environment, call, clone) -> None:
    assert call("--mpi", "system") == 0
    assert editable(environment) == str(clone.root)
    assert (clone.root / ".venv-system" / "allgrad-ready.json").exists()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_interrupted_installation_is_made_anew(environment, call, clone, at) -> None:
    genuine = environment.run

    def run(*command) -> None:
        if len(environment.steps) == at:
            raise KeyboardInterrupt
        genuine(*command)

    environment.run = run
    with pytest.raises(KeyboardInterrupt):
        call("--mpi", "openmpi")
    (clone.root / ".venv-openmpi" / "half-written").touch()
    environment.run = genuine
    environment.steps.clear()
    assert call("--mpi", "openmpi") == 0
    assert [step[2] for step in environment.steps] == ["venv", "pip", "pip"]
    assert not (clone.root / ".venv-openmpi" / "half-written").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(environment, call, clone) -> None:
    (clone.bin / "python").unlink()
    assert call() == 0
    assert environment.steps[0][2] == "venv"
    assert editable(environment) == f"{clone.root}[dev,mpich]"


def test_a_failing_step_is_a_message_and_leaves_no_stamp(environment, call, clone, capsys) -> None:
    def run(*command) -> None:
        raise environment.SetupError("this step failed")

    environment.run = run
    assert call("--mpi", "openmpi") == 1
    assert "this step failed" in capsys.readouterr().err
    assert not (clone.root / ".venv-openmpi" / "allgrad-ready.json").exists()


def test_of_two_callers_one_installs_and_the_other_waits(environment, clone, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["setup.sh", "--mpi", "openmpi"])
    genuine_run, genuine_say, waits = environment.run, environment.say, threading.Event()

    def run(*command) -> None:
        assert waits.wait(200)  # for the other caller to meet the lock
        genuine_run(*command)

    def say(text: str) -> None:
        genuine_say(text)
        if "another call" in text:
            waits.set()

    environment.run, environment.say = run, say
    callers = [threading.Thread(target=environment.main) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [step[2] for step in environment.steps] == ["venv", "pip", "pip"]
    assert "another call is setting up" in capsys.readouterr().err


def test_a_clone_that_cannot_be_written_is_a_message(environment, call, monkeypatch, capsys) -> None:
    def mkdir(self, *arguments, **options) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert call("--mpi", "openmpi") == 1
    assert "Permission denied" in capsys.readouterr().err


def test_setup_finds_no_python_and_says_so(clone) -> None:
    (clone.root / "system" / "python3").unlink()
    old = "case $* in *version_info*) exit 1 ;; esac"
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"):
        clone.program(name, old, clone.root / "system")
    done = clone.run("setup.sh")
    assert done.returncode == 2
    assert "older than 3.11" in done.stderr
    assert "PYTHON=/path/to/python" in done.stderr


def test_setup_finds_no_venv_module_and_says_how_to_get_it(clone) -> None:
    (clone.root / "system" / "python3").unlink()
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"):
        clone.program(name, "case $* in *ensurepip*) exit 1 ;; esac", clone.root / "system")
    done = clone.run("setup.sh")
    assert done.returncode == 2
    assert "apt-get install python3-venv" in done.stderr


def test_constraints_name_an_exact_version_of_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {*project["project"]["dependencies"], *project["build-system"]["requires"]}
    for extra in project["project"]["optional-dependencies"].values():
        wanted.update(extra)
    lines = [line for line in (ROOT / "launch/constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    pinned = {plain(line.partition("==")[0]) for line in lines}
    named = {plain(re.split(r"[><=~!\[; ]", name)[0]) for name in wanted}
    assert named - {"allgrad"} <= pinned  # an extra may name others of our own


def test_a_real_failure_of_a_step_names_the_command(environment) -> None:
    with pytest.raises(environment.SetupError, match=r"exit code 3"):
        environment.genuine_run(sys.executable, "-c", "raise SystemExit(3)")
