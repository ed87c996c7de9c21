"""Two hosts on one kernel, for tests and benchmarks: `nodea` (10.77.0.1) and `nodeb` (10.77.0.2), joined by one shaped link.

Each host is a set of namespaces (network, hostname, IPC, mounts) with its own /dev/shm, so that shared memory does not
reach from one to the other and MPI sees two nodes. A holder process keeps a host alive; it ends when this process does.
Each host has half of the machine's cores, and its processes run on no other. Needs root, iproute2 and util-linux.

    python tests/mpi/netns/two_hosts.py [--rate 1gbit] RANKS SCRIPT ARGUMENTS...

runs an MPI job over both hosts, half of the ranks on each, and says how many bytes crossed the link (MPICH).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UNSHARE = ["unshare", "--net", "--uts", "--ipc", "--mount"]
PATIENCE = 100  # seconds after which a host or a link counts as dead
ADDRESSES = {"nodea": "10.77.0.1", "nodeb": "10.77.0.2"}

# What mpiexec takes for rsh: options first, then the host, then words that a shell on that host shall run.
RSH = """\
#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
case "$1" in
    nodea|10.77.0.1) holder={nodea} cores={nodea_cores} ;;
    nodeb|10.77.0.2) holder={nodeb} cores={nodeb_cores} ;;
    *) echo "unknown host $1" >&2; exit 255 ;;
esac
shift
exec taskset -c "$cores" nsenter --target "$holder" --net --uts --ipc --mount --wd="$PWD" /bin/sh -c "$*"
"""


def reason_against() -> str | None:
    """Why this machine cannot play two hosts, or None."""
    if sys.platform != "linux":
        return "two hosts on one kernel need Linux namespaces"
    if os.geteuid() != 0:
        return "two hosts on one kernel need root"
    missing = [tool for tool in ("unshare", "nsenter", "taskset", "ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"two hosts on one kernel need {', '.join(missing)} (iproute2, util-linux)"
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode:
        return "two hosts on one kernel need the right to make namespaces, which this container withholds"
    return None


class TwoHosts:
    """A context manager: the hosts exist inside it."""

    def __init__(self, rate: str | None = "1gbit") -> None:
        self.rate = rate
        self.folder = Path(tempfile.mkdtemp(prefix="two-hosts-"))
        cores = sorted(os.sched_getaffinity(0))
        half = len(cores) // 2
        self.cores = dict(zip(ADDRESSES, (cores[:half], cores[half:]) if half else (cores, cores), strict=True))
        self.holders: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> TwoHosts:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name, holder in self.holders.items():
            self.crash(name)
            holder.stdin.close()
            holder.stdout.close()
            holder.wait(PATIENCE)
        shutil.rmtree(self.folder)

    def command(self, ranks: int, words: list[str], per_host: int | None = None) -> list[str]:
        """The command line of an MPI job over both hosts, started on nodea; `words` is the program and its arguments.

        `per_host`: how many ranks a host gets in its turn; default: the first half of the ranks, then the other.
        """
        mpiexec = ["mpiexec", "-launcher", "rsh", "-launcher-exec", str(self.folder / "rsh")]
        mpiexec += ["-hosts", "nodea,nodeb", "-n", str(ranks), "-ppn", str(per_host or (ranks + 1) // 2), *words]
        return [*self._enter("nodea"), f"--wd={Path.cwd()}", *mpiexec]

    def open_mpi_command(self, per_host: int, words: list[str], *flags: str) -> list[str]:
        """The command line of a job of Open MPI 5, started on nodea: `per_host` ranks on each host."""
        mpirun = ["mpirun", "--allow-run-as-root", "--prtemca", "plm_ssh_agent", str(self.folder / "rsh")]
        mpirun += ["--prtemca", "prte_if_include", "eth0", "--mca", "btl_tcp_if_include", "eth0"]
        mpirun += ["--host", ",".join(f"{name}:{per_host}" for name in ADDRESSES), "--map-by", ":oversubscribe"]
        mpirun += ["--bind-to", "none", *flags, "-n", str(per_host * len(ADDRESSES)), *words]
        return [*self._enter("nodea"), f"--wd={Path.cwd()}", *mpirun]

    def environment(self) -> dict[str, str]:
        """What such a job needs in its environment: UCX wants to be told the interface."""
        return {"UCX_NET_DEVICES": "eth0"}

    def bytes_sent(self) -> dict[str, int]:
        """The bytes that each host has sent over the link since it came up."""
        sent = {}
        for name, holder in self.holders.items():
            table = Path(f"/proc/{holder.pid}/net/dev").read_text()
            (line,) = [line for line in table.splitlines() if line.strip().startswith("eth0:")]
            sent[name] = int(line.split(":")[1].split()[8])
        return sent

    def crash(self, name: str) -> None:
        """Kill all that runs on a host, as a power cut would; the host stays usable."""
        holder = self.holders[name].pid
        namespace = os.readlink(f"/proc/{holder}/ns/net")
        if namespace == os.readlink("/proc/self/ns/net"):
            return  # it never left the real host
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if int(process.name) != holder and os.readlink(process / "ns" / "net") == namespace:
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it has ended meanwhile, or is not ours to look at

    def _enter(self, name: str) -> list[str]:
        cores = ["taskset", "-c", _listed(self.cores[name])]
        return [*cores, "nsenter", "--target", str(self.holders[name].pid), "--net", "--uts", "--ipc", "--mount"]

    def _start(self) -> None:
        hosts = self.folder / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{ip} {name}\n" for name, ip in ADDRESSES.items()))
        for name in ADDRESSES:
            inside = f"hostname {name} && mount -t tmpfs tmpfs /dev/shm && mount --bind {hosts} /etc/hosts"
            self.holders[name] = subprocess.Popen(
                [*UNSHARE, "--propagation", "private", "sh", "-c", f"{inside} && echo up && exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            if self.holders[name].stdout.readline() != b"up\n":
                raise RuntimeError(f"The host {name} did not come up.")
        pids = {name: holder.pid for name, holder in self.holders.items()}
        cores = {f"{name}_cores": _listed(mine) for name, mine in self.cores.items()}
        (self.folder / "rsh").write_text(RSH.format(**pids, **cores))
        (self.folder / "rsh").chmod(0o755)
        peer = ["type", "veth", "peer", "name", "eth0", "netns", str(pids["nodeb"])]
        _run(["ip", "link", "add", "eth0", "netns", str(pids["nodea"]), *peer])
        for name, ip in ADDRESSES.items():
            enter = ["nsenter", "--target", str(pids[name]), "--net"]
            _run([*enter, "ip", "link", "set", "lo", "up"])
            _run([*enter, "ip", "address", "add", f"{ip}/24", "dev", "eth0"])
            _run([*enter, "ip", "link", "set", "eth0", "up"])
            if self.rate:
                shape = ["tbf", "rate", self.rate, "burst", "128kb", "latency", "20ms"]
                _run([*enter, "tc", "qdisc", "add", "dev", "eth0", "root", *shape])
        for name in ADDRESSES:
            self._await_link(name)

    def _await_link(self, name: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            state = _run(
                ["nsenter", "--target", str(self.holders[name].pid), "--net", "ip", "-br", "link", "show", "eth0"]
            )
            if " UP " in state:
                return
            time.sleep(0.05)
        raise RuntimeError(f"The link of {name} did not come up.")


def _listed(cores: list[int]) -> str:
    """Cores as taskset takes them."""
    return ",".join(map(str, cores))


def _run(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {run.stderr.strip()}")
    return run.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="1gbit", help="of the link, as tc understands it; 'none' for no limit")
    parser.add_argument("ranks", type=int)
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="SCRIPT ARGUMENTS...")
    options = parser.parse_args()
    if reason := reason_against():
        sys.exit(f"Not here: {reason}.")
    with TwoHosts(None if options.rate == "none" else options.rate) as hosts:
        path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
        env = os.environ | hosts.environment() | {"PATH": path}
        code = subprocess.run(hosts.command(options.ranks, [sys.executable, *options.words]), env=env).returncode
        print("bytes sent over the link:", hosts.bytes_sent())
    sys.exit(code)


if __name__ == "__main__":
    main()
