"""Kills of whole hosts: a supervised job over two hosts with real sshd must end in the weights of an undisturbed run.

    python tests/faults/campaigns/nodes.py --kills 20 [--mpi mpich|openmpi] [--seed 0] [-o nodes.json]

All processes of the host that does not run the launcher are killed at a random moment, as in a power cut, sshd among them. In
half of the runs the host comes back at once, in the others a few seconds later: until then the run goes on without it, with fewer
ranks. Needs root and openssh-server; the hosts are those of tests/clusters/ssh.py.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "clusters"))

from ssh import PATIENCE, SshHosts, calm_digest, wait_for, write_config

STEPS, EVERY = 200, 10


def one(ssh: SshHosts, number: int, seed: int, config: Path, folder: Path) -> dict:
    """One run in which a host dies, and how it ended."""
    rng = random.Random(f"{seed} {number}")
    run, after, away = folder / f"run-{number}", rng.uniform(0.0, 4.0), rng.choice([0.0, 8.0])
    began = time.monotonic()
    process = ssh.start(config, run, supervised=True)
    wait_for(lambda: ssh.ranks("nodeb", run) or process.poll() is not None, "ranks")
    time.sleep(after)
    struck = bool(ssh.ranks("nodeb", run))
    ssh.hosts.crash("nodeb")
    time.sleep(away)
    ssh.start_sshd("nodeb")
    output, _ = process.communicate(timeout=PATIENCE)
    summary = run / "summary.json"
    return {
        "number": number, "after": after, "away": away, "struck": struck, "code": process.returncode,
        "digest": json.loads(summary.read_text())["weights_sha256"] if summary.exists() else None,
        "restarts": output.count("starting again from"), "without": output.count("Going on without it"),
        "left": len(ssh.ranks("nodea", run)) + len(ssh.ranks("nodeb", run)),
        "seconds": time.monotonic() - began, "output": output[-3000:],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--mpi", choices=["mpich", "openmpi"], default="mpich")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    right = struck = 0
    with tempfile.TemporaryDirectory(prefix="allgrad-nodes-") as place, SshHosts(arguments.mpi) as ssh:
        folder = Path(place)
        config = write_config(
            folder,
            train={"steps": STEPS, "early_stopping": None},
            checkpoint={"every": EVERY},
            parallel={"stall_seconds": 10},
        )
        expected = calm_digest(config, folder, STEPS)
        for number in range(arguments.kills):
            result = one(ssh, number, arguments.seed, config, folder)
            good = result["digest"] == expected and result["code"] == 0 and not result["left"]
            right, struck = right + good, struck + result["struck"]
            print(
                f"{number:3} after {result['after']:.1f} s, away {result['away']:.0f} s: restarts {result['restarts']}, starts "
                f"without the host {result['without']}, {result['seconds']:5.1f} s {'right' if good else 'WRONG'}",
                flush=True,
            )
            if not good:
                print(result["output"])
    counts = {"node kills": struck, "runs": arguments.kills, "right": right, "mpi": arguments.mpi}
    print(json.dumps(counts))
    if arguments.output:
        arguments.output.write_text(json.dumps(counts))
    return int(right < arguments.kills)


if __name__ == "__main__":
    sys.exit(main())
