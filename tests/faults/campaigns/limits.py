"""What runs out: disk, shared memory, open files, memory. The run must end or go on, say why, and keep its last good state.

    python tests/faults/campaigns/limits.py [CASE ...] [-o limits.json]

Needs root: disks and /dev/shm are small tmpfs in a mount namespace. Each case is a job of two ranks. It must end by itself, with
the reason, and a checkpoint that is there must be whole.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from small_run import write_config

from allgrad.train.checkpoint.format import CheckpointError, load_latest

PATIENCE = 300  # seconds
UNTIL_SAVED = 'until [ -n "$(ls $disk/run/checkpoints 2>/dev/null)" ] || ! kill -0 $job; do sleep 0.1; done'
SMALL_MEMORY = """
import resource
from allgrad.train import Callback, register_callback

class Less(Callback):
    def on_step(self, run, result):
        if run.progress.step == 15 and run.world.rank == 1:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
            bytearray(64 << 20)

@register_callback("less")
def less():
    return Less()
"""


@dataclass(frozen=True)
class Case:
    """One thing that runs out.

    Attributes:
        name: of the case.
        before: shell commands on the run's file system, `$disk`, before the job.
        during: the same, once there is a checkpoint.
        words: overrides and options of the job.
        codes: exit codes that are right.
        said: what the output must name; one of these.
        saved: whether a whole checkpoint must be left.
    """

    name: str
    said: tuple[str, ...]
    before: str = ""
    during: str = ""
    words: tuple[str, ...] = ()
    codes: tuple[int, ...] = (1,)
    saved: bool = True


CASES = [
    Case("disk full", ("No space left on device",), during="head -c 100M /dev/zero > $disk/filler 2>/dev/null || true"),
    Case("disk read-only", ("Read-only file system",), during="mount --bind $disk $disk; mount -o remount,bind,ro $disk"),
    Case("disk read-only before", ("Read-only file system",), before="mount -o remount,ro $disk", codes=(1, 2), saved=False),
    Case("directory gone", ("deleted", "No such file or directory"), during="rm -rf $disk/run", saved=False),
    Case(
        "shared memory full",
        ("/dev/shm", "shared memory"),
        before="mount -t tmpfs -o size=1m tmpfs /dev/shm; head -c 1000K /dev/zero > /dev/shm/filler",
        saved=False,
        codes=(0, 1, 2),
    ),
    Case(
        "shared memory of 64 KB",
        ("/dev/shm", "shared memory"),
        before="mount -t tmpfs -o size=64k tmpfs /dev/shm",
        words=("parallel.memory=node", "train.steps=20"),
        saved=False,
        codes=(0, 1, 2),
    ),
    Case("64 open files", ("complete", "Too many open files", "open files"), before="ulimit -n 64", codes=(0, 1, 2), saved=False),
    Case("16 open files", ("Too many open files", "open files"), before="ulimit -n 16", codes=(1, 2), saved=False),
    Case("memory of one rank", ("MemoryError",), words=("--plugin", "{folder}/less.py", "train.callbacks=[less]")),
]  # fmt: skip


def run(case: Case, folder: Path) -> str:
    """How it went, in words that begin with "right" or "WRONG"."""
    folder.mkdir()
    disk = folder / "disk"
    disk.mkdir()
    (folder / "less.py").write_text(SMALL_MEMORY)
    config = write_config(
        folder, train={"steps": 2000, "early_stopping": None, "eval_every": 500}, checkpoint={"every": 10}
    )
    words = [word.format(folder=folder) for word in case.words]
    allgrad = f"{sys.executable} -P -m allgrad train {config} -n 2 run.dir={disk}/run {' '.join(words)}"
    script = f"""
        disk={disk}
        mount -t tmpfs -o size=4m tmpfs $disk
        {case.before}
        {allgrad} & job=$!
        {UNTIL_SAVED if case.during else ""}
        {case.during}
        wait $job; echo "exit code $?"
        cp -r $disk/run {folder}/kept 2>/dev/null
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    began = time.monotonic()
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    process = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return f"WRONG: it did not end\n{process.communicate()[0][-3000:]}"
    code = int(output.rpartition("exit code ")[2].split()[0]) if "exit code " in output else -1
    mistakes = [] if code in case.codes else [f"exit code {code}"]
    if code and not any(text in output for text in case.said):
        mistakes.append("no reason given")
    try:
        checkpoint, refused = load_latest(folder / "kept" / "checkpoints")
        if checkpoint is None and case.saved:
            mistakes.append("no whole checkpoint is left")
        mistakes += refused
    except CheckpointError as error:
        mistakes.append(str(error))
        checkpoint = None
    state = f"checkpoint of step {checkpoint.step}" if checkpoint else "no checkpoint"
    reason = next((line.strip()[:160] for line in output.splitlines() if any(text in line for text in case.said)), "")
    if mistakes:
        return f"WRONG: {'; '.join(mistakes)}\n{output[-3000:]}"
    return f"right: exit code {code}, {state}, {time.monotonic() - began:.0f} s: {reason}"


def main() -> int:
    if os.geteuid() != 0:
        sys.exit("Needs root.")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    results = []
    place = Path(tempfile.mkdtemp(prefix="allgrad-limits-"))
    try:
        for case in CASES:
            if not arguments.cases or case.name in arguments.cases:
                results.append(run(case, place / case.name.replace(" ", "-")))
                print(f"{case.name}: {results[-1]}", flush=True)
    finally:
        shutil.rmtree(place)
    right = sum(not result.startswith("WRONG") for result in results)
    if arguments.output:
        arguments.output.write_text(json.dumps({"cases": len(results), "right": right}))
    return int(right < len(results))


if __name__ == "__main__":
    sys.exit(main())
