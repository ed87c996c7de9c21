"""Random kills of random ranks of a supervised job: every run must end in the weights of one that was never disturbed.

    python tests/faults/campaigns/kills.py --kills 100 [--ranks 4] [--seed 0] [-o kills.json]

Each run trains 60 steps of a small model with dropout, clipping, an average and evaluations, with a checkpoint every five steps.
It is disturbed once: half of the times from outside, at a random moment, by a random signal; half of the times from inside, by
a rank that sends itself a signal, or calls `os._exit`, in a chosen phase (start-up, before and after a step's gradients, after
the update, in a checkpoint, in an evaluation, at the end). A rank that is stopped is found after five seconds, or after 60 while
the job starts. A death that was planned for a moment that the run does not reach is no kill: there are as many runs as it takes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from small_run import write_config

STEPS, EVERY = 60, 5
SIGNALS = ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGSTOP"]
PHASES = ["start-up", "before a step", "after the gradients", "after the update", "checkpoint", "evaluation", "end"]
PLUGIN = Path(__file__).parents[2] / "support" / "kill_plugin.py"


def one(number: int, seed: int, ranks: int, folder: Path, config: Path, seconds: float | None) -> dict:
    """One run, disturbed within so many seconds (None: never), and how it ended."""
    rng = random.Random(f"{seed} {number}")
    run, mark = folder / f"run-{number}", folder / f"mark-{number}-0"  # the plugin numbers the deaths of a plan
    inside = seconds is None or rng.random() < 0.5
    phase = rng.choice(PHASES)
    most = {"start-up": 1, "end": 1, "checkpoint": STEPS // EVERY, "evaluation": 4}.get(phase, STEPS)
    plan = {
        "phase": phase if inside and seconds is not None else "never",
        "call": rng.randint(1, most),
        "rank": rng.randrange(ranks),
        "action": rng.choice([*SIGNALS, "os._exit"]) if inside else rng.choice(SIGNALS),
        "after": rng.uniform(0.0, seconds or 0.0),
    }
    death = [plan["phase"], plan["call"], plan["rank"], plan["action"]]
    marked = str(folder / f"mark-{number}")
    environment = os.environ | {"KILL_PLAN": json.dumps([death]), "KILL_MARK": marked, "OPENBLAS_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    allgrad = [sys.executable, "-P", "-m", "allgrad"]
    words = ["train", str(config), "-n", str(ranks), "--plugin", str(PLUGIN), f"run.dir={run}"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*allgrad, "supervise", "--pause", "0.1", "--", *allgrad, *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    if not inside:
        threading.Thread(target=strike, args=(plan, mark, marked), daemon=True).start()
    try:
        output, _ = process.communicate(timeout=700)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += "\nTIMEOUT"
    digest = None
    with contextlib.suppress(OSError, ValueError):
        digest = json.loads((run / "summary.json").read_text())["weights_sha256"]
    return {
        **plan, "number": number, "code": process.returncode, "digest": digest, "struck": mark.exists(),
        "restarts": output.count("starting again from"), "seconds": time.monotonic() - began, "output": output[-3000:],
    }  # fmt: skip


def strike(plan: dict, mark: Path, marked: str) -> None:
    """From outside: a signal for a rank of the job, at a moment."""
    time.sleep(plan["after"])
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            space = dict(
                part.split("=", 1)
                for part in (entry / "environ").read_text().split("\0")
                if part.count("=") and "_" in part
            )
            rank = space.get("PMI_RANK", space.get("OMPI_COMM_WORLD_RANK"))
            if space.get("KILL_MARK") == marked and rank == str(plan["rank"]):
                mark.touch()
                os.kill(int(entry.name), getattr(signal, plan["action"]))
                return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="allgrad-kills-") as name:
        folder = Path(name)
        config = write_config(
            folder,
            train={"steps": STEPS, "early_stopping": None, "eval_every": 15},
            checkpoint={"every": EVERY},
            parallel={"startup_seconds": 60, "stall_seconds": 5},
        )
        one(
            -2, arguments.seed, arguments.ranks, folder, config, None
        )  # compiles; the next one says how long a run takes
        calm = one(-1, arguments.seed, arguments.ranks, folder, config, None)
        expected, seconds = calm["digest"], calm["seconds"]
        if expected is None:
            print(calm["output"])
            return 1
        results: list[dict] = []
        for number in itertools.count():
            if sum(result["struck"] for result in results) == arguments.kills:
                break
            result = one(number, arguments.seed, arguments.ranks, folder, config, seconds)
            results.append(result)
            good = result["digest"] == expected and result["code"] == 0
            what = result["phase"] if result["phase"] != "never" else f"after {result['after']:.1f} s"
            print(
                f"{number:3} rank {result['rank']} {result['action']:8} {what:20} struck {result['struck']!s:5} "
                f"restarts {result['restarts']} {result['seconds']:5.1f} s {'right' if good else 'WRONG'}",
                flush=True,
            )
            if not good:
                print(result["output"])
    struck = [result for result in results if result["struck"]]
    right = [r for r in results if r["digest"] == expected and r["code"] == 0]
    summary = {
        "kills": len(struck), "runs": len(results), "right": len(right), "right after a kill": sum(r["struck"] for r in right),
        "ranks": arguments.ranks,
        "restarts": sum(r["restarts"] for r in results), "seconds undisturbed": seconds,
        "median seconds": statistics.median(r["seconds"] for r in results),
    }  # fmt: skip
    print(json.dumps(summary))
    if arguments.output:
        arguments.output.write_text(json.dumps(summary))
    return 0 if len(right) == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
