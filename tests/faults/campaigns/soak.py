"""A long run under kills: memory, open files and threads at its end must be what they were after the first minute.

    python tests/faults/campaigns/soak.py --minutes 30 [--ranks 2] [--seed 0] [-o soak.json]

A supervised run trains without an end, with a checkpoint every two seconds; each minute a random rank is killed. Every two
seconds resident memory, open files and threads of launcher, supervisor and ranks are counted. A process that lived for less
than twenty seconds does not count: its memory still grows to its size. At the end the run is asked to stop, must save its state,
and nothing of it may be left: no process, no shared memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from small_run import write_config

MARK = "SOAK_MARK"
GROWN = 1.1  # memory at the end over that after the first minute


def processes(mark: str) -> dict[int, str]:
    """The processes of the soak: number -> "rank" or "other"."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if f"{MARK}={mark}".encode() in variables:
                words = (entry / "cmdline").read_bytes()
                rank = any(word.startswith(b"PMI_RANK=") for word in variables) and b"allgrad" in words
                found[int(entry.name)] = "rank" if rank else "other"
    return found


def counts(process: int) -> tuple[int, int, int]:
    """(resident MiB, open files, threads) of a process."""
    place = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
    return int(status["VmRSS"].split()[0]) // 1024, len(list((place / "fd").iterdir())), int(status["Threads"])


def soak(folder: Path, minutes: float, ranks: int, rng: random.Random) -> dict:
    """Run, kill and count; the summary."""
    config = write_config(
        folder,
        train={"steps": 10**9, "early_stopping": None, "eval_every": 2000, "log_every": 1000},
        checkpoint={"every": None, "every_minutes": 2 / 60},
    )
    mark, run = str(folder), folder / "run"
    allgrad = [sys.executable, "-P", "-m", "allgrad"]
    words = ["train", str(config), "-n", str(ranks), f"run.dir={run}"]
    environment = os.environ | {MARK: mark, "OPENBLAS_NUM_THREADS": "1"}
    shared = set(Path("/dev/shm").glob("mpich_shm_*"))
    samples: list[tuple[float, str, tuple[int, int, int]]] = []
    kills, born = 0, {}
    with (folder / "output").open("w") as output:
        command = [*allgrad, "supervise", "--pause", "0.1", "--", *allgrad, *words]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        began = killed = time.monotonic()
        while process.poll() is None and time.monotonic() - began < 60 * minutes:
            time.sleep(2)
            now = time.monotonic()
            for one, kind in processes(mark).items():
                if now - born.setdefault(one, now) > 20:
                    with contextlib.suppress(OSError, KeyError):
                        samples.append((now - began, kind, counts(one)))
            alive = [one for one, kind in processes(mark).items() if kind == "rank"]
            if now - killed > 60 and alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(alive), signal.SIGKILL)
                    kills, killed = kills + 1, now
        ended_early = process.poll() is not None
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=300)
    left = set(Path("/dev/shm").glob("mpich_shm_*")) - shared
    text = (folder / "output").read_text()
    return {
        "minutes": minutes, "kills": kills, "restarts": text.count("starting again from"), "code": code,
        "ended early": ended_early, "processes left": len(processes(mark)), "segments left": len(left),
        "checkpoint": max((int(one.name[5:]) for one in (run / "checkpoints").glob("step-*[0-9]")), default=0),
        "rank": growth([one for one in samples if one[1] == "rank"]),
        "other": growth([one for one in samples if one[1] == "other"]), "output": text[-3000:],
    }  # fmt: skip


def growth(samples: list[tuple[float, str, tuple[int, int, int]]]) -> dict[str, list[float]]:
    """In the minute after the first one, and in the last minute: [MiB, median; open files and threads, the fewest seen].

    A checkpoint that is being written has a thread and a file of its own for a moment.
    """
    if not samples:
        return {"first": [], "last": []}
    first, last = samples[0][0], samples[-1][0]
    early = [what for when, _, what in samples if when < first + 60]
    late = [what for when, _, what in samples if when > last - 60]
    return {
        name: [statistics.median(memory), min(files), min(threads)]
        for name, (memory, files, threads) in (("first", zip(*early, strict=True)), ("last", zip(*late, strict=True)))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="allgrad-soak-") as name:
        result = soak(Path(name), arguments.minutes, arguments.ranks, random.Random(arguments.seed))
    output = result.pop("output")
    print(json.dumps(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(result))
    first, last = result["rank"]["first"], result["rank"]["last"]
    steady = bool(first) and last[0] <= GROWN * first[0] and last[1:] == first[1:]
    good = steady and result["code"] == 4 and not result["ended early"] and not result["processes left"]
    if not good:
        print(output)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
