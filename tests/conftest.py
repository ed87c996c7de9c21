"""Real `mpirun` jobs for tests: the fixture `mpirun` runs a function on every rank and gathers what they returned.

No test depends on how long anything takes: what is waited for is a condition, and the only clock is `PATIENCE`, after which a
job counts as hanging. Hypothesis draws the same examples on every run; `--hypothesis-profile=default` draws new ones.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule
from checked_kernels import check_arrays
from hypothesis import HealthCheck, settings

PATIENCE = 300  # seconds; a machine may be many times slower than the one on which a test was written

settings.register_profile("allgrad", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("allgrad")


def pytest_configure():
    """A shell starts jobs in the background with SIGINT ignored, and processes inherit that: tests of interrupts would wait."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    check_arrays()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """No doctests from tests: their collector ignores a file that cannot be imported, and then its tests are missing unseen."""
    return [found for found in (yield) if not isinstance(found, DoctestModule)]


@pytest.fixture(autouse=True)
def peers_from_the_same_seed():
    """PyTorch's initial weights do not depend on which tests ran before: two numbers that nearly tie could go either way."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def registered_components_as_before():
    """What a test's plugin registers is forgotten after it: registries are shared by the whole process."""
    from allgrad.train.config import registry

    registry.load_builtin()
    kinds = [kind for kind in vars(registry).values() if isinstance(kind, registry.Registry)]
    before = [dict(kind._entries) for kind in kinds]
    yield
    for kind, entries in zip(kinds, before, strict=True):
        kind._entries.clear()
        kind._entries.update(entries)


PRELUDE = """\
import json, os, sys
from pathlib import Path
{source}
if __name__ == "__main__":
    from allgrad import comm
    value = {name}(*json.loads(sys.argv[2]))
    Path(sys.argv[1], f"rank{{comm.init().rank}}.json").write_text(json.dumps(value))
"""

OPENMPI_FLAGS = ["--oversubscribe"]
OPENMPI_ENV = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,sm,tcp",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}
LAUNCHER_PREFIXES = ("PMI_", "PMIX_", "OMPI_", "SLURM_", "PALS_", "MV2_", "OMP_", "OPENBLAS_NUM", "MKL_")


@dataclass
class Job:
    """A finished job: its exit code, its output, and what each rank returned (None: nothing)."""

    code: int
    stdout: str
    stderr: str
    values: list


def _clean_environment(extra):
    # OPENBLAS_CORETYPE and its like stay: bits are compared with this process's, so both must use the same kernels.
    env = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER_PREFIXES)}
    env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore::RuntimeWarning"}
    env["PYTHONPATH"] = str(Path(__file__).parent / "support")
    env["PATH"] = str(Path(sys.executable).parent) + os.pathsep + env.get("PATH", "")
    return env | extra


@pytest.fixture
def clean_environment():
    """clean_environment(extra) -> the environment of this process without what launchers and BLAS left there."""
    return _clean_environment


@pytest.fixture(scope="session")
def mpi_flavour():
    """("mpich" | "openmpi", path of mpirun); skips where there is none."""
    path = shutil.which("mpirun", path=_clean_environment({})["PATH"])
    if path is None:
        pytest.skip("no mpirun: install an MPI library, for example the wheel `pip install mpich`")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PATIENCE).stdout
    return ("openmpi" if "Open MPI" in said else "mpich"), path


@pytest.fixture
def run_group():
    """run_group(command, env=, cwd=None) -> (exit code, stdout, stderr)"""
    return _run_group


def _run_group(command, *, env, cwd=None):
    """Run a command in a session of its own; after `PATIENCE` seconds the whole session is killed and the test fails."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{command[0]} did not end within {PATIENCE} s.\nstdout:\n{out}\nstderr:\n{err}")
    return process.returncode, out, err


def _write_job(function, folder, args):
    """The words that run a self-contained function, or a script, in a folder of its own."""
    folder.mkdir()
    if not callable(function):
        return [sys.executable, str(function), *(str(a) for a in args)]
    script = folder / "job.py"
    source = textwrap.dedent(inspect.getsource(function))
    script.write_text(PRELUDE.format(source=source, name=function.__name__))
    return [sys.executable, str(script), str(folder), json.dumps(args)]


@contextmanager
def _shared_memory_given_back():
    """MPICH leaves the segments of a job that was aborted in /dev/shm, which is 64 MB in a container: 30 jobs fill it."""
    place = Path("/dev/shm")
    before = set(place.glob("mpich_shm_*"))
    yield
    left = set(place.glob("mpich_shm_*")) - before
    mapped = ""
    for process in Path("/proc").glob("[0-9]*") if left else ():
        with suppress(OSError):  # it has ended meanwhile, or is not ours to look at
            mapped += (process / "maps").read_text()
    for path in left:
        if path.name not in mapped:  # or else it is another job's
            with suppress(OSError):
                path.unlink()


def _run_job(command, function, folder, ranks, *, env, check):
    with _shared_memory_given_back():
        code, out, err = _run_group(command, env=env)
    files = [folder / f"rank{rank}.json" for rank in range(ranks)]
    values = [json.loads(file.read_text()) if file.exists() else None for file in files]
    # Open MPI ends with code 0 when a whole node dies: what the ranks wrote is the proof that they came to the end.
    if check and (code != 0 or (callable(function) and not all(file.exists() for file in files))):
        pytest.fail(f"The job of {ranks} ranks ended with code {code}.\nstdout:\n{out}\nstderr:\n{err}")
    return Job(code, out, err, values)


@pytest.fixture
def mpirun(mpi_flavour, tmp_path):
    """mpirun(function, ranks, *args, env=None, check=True) -> Job

    `function` is self-contained (its source goes into a script of its own; imports stand inside, tests/support is on the
    path), takes JSON values and returns one; a path is run as it is, with `args` on its command line. With `check` a job that
    fails, or a rank that returned nothing, fails the test with the job's output. The jobs of a test run in tmp_path / "job1",
    "job2", ...
    """
    flavour, path = mpi_flavour
    counter = itertools.count(1)

    def run(function, ranks, *args, env=None, check=True):
        folder = tmp_path / f"job{next(counter)}"
        flags = OPENMPI_FLAGS if flavour == "openmpi" else []
        environment = _clean_environment((OPENMPI_ENV if flavour == "openmpi" else {}) | (env or {}))
        command = [path, *flags, "-n", str(ranks), *_write_job(function, folder, args)]
        return _run_job(command, function, folder, ranks, env=environment, check=check)

    return run


@pytest.fixture(scope="session")
def two_hosts(mpi_flavour):
    """Two hosts on this kernel, joined by a link of 1 Gbit/s (netns/two_hosts.py)."""
    spec = importlib.util.spec_from_file_location("two_hosts", Path(__file__).parent / "mpi" / "netns" / "two_hosts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if reason := module.reason_against():
        pytest.skip(reason)
    if mpi_flavour[0] != "mpich":
        pytest.skip("the two hosts are driven by MPICH's mpiexec")
    with module.TwoHosts() as hosts:
        yield hosts


@pytest.fixture
def mpirun_two_hosts(two_hosts, tmp_path):
    """As `mpirun`, over two hosts, half of the ranks on each, or `per_host` in turn."""
    counter = itertools.count(1)

    def run(function, ranks, *args, env=None, check=True, per_host=None):
        folder = tmp_path / f"two{next(counter)}"
        environment = _clean_environment(two_hosts.environment() | (env or {}))
        command = two_hosts.command(ranks, _write_job(function, folder, args), per_host)
        return _run_job(command, function, folder, ranks, env=environment, check=check)

    return run
