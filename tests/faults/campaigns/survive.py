"""Ranks of a job that survives are killed: every run must end, without a restart, in the weights of one that was never disturbed.

    python tests/faults/campaigns/survive.py --kills 40 --joins 10 --minutes 5 [--memory rank node] [--ranks 4] [-o survive.json]

Needs Open MPI (`launch/test.sh --mpi openmpi --faults`). Each run trains 60 steps of a small model with dropout, clipping, an
average and evaluations; the runs take the `--memory` in turn. A run loses ranks once, in a chosen phase: rank 0 in every third
run, two ranks at once in every fourth. A rank that dies in an update writes NaN into its part of the weights first. In the runs
for joins, steps take half a second, so that a replacement is ready before the end.

At last, one job for each `--memory` trains for `--minutes`, and a random rank is killed whenever the job has been complete for
`--calm` seconds. Its throughput is the part of the live ranks' time in which they trained: for each rank that reaches the end,
the time between its first and its last step, less what recoveries and joins took. Such an interruption takes the time between
the last step finished before it and the first one finished after it, less the median time of a step; work that was begun in vain
is in it.
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
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from small_run import metrics, summary, write_config

PLUGIN = Path(__file__).parents[2] / "support" / "kill_plugin.py"
STEPS, EVERY, EVAL = 60, 5, 15
ACTIONS = ["SIGKILL", "SIGKILL", "SIGSEGV", "SIGABRT"]
PHASES = {
    "before a step": STEPS, "in a step": STEPS, "after the gradients": STEPS, "after the update": STEPS,
    "in the update": STEPS, "in the average": STEPS,
    "checkpoint": STEPS // EVERY, "evaluation": STEPS // EVAL, "end": 1,
}  # fmt: skip
TEARS = ("in the update", "in the average")


def plan_of(number: int, seed: int, ranks: int) -> list[list]:
    """The deaths of a run."""
    rng = random.Random(f"{seed} {number}")
    phase = rng.choice(list(PHASES))
    call, first = rng.randint(1, PHASES[phase]), 0 if number % 3 == 0 else rng.randrange(1, ranks)
    victims = [first, *rng.sample([rank for rank in range(ranks) if rank != first], int(number % 4 == 3))]
    return [[phase, call, rank, "tear" if phase in TEARS else rng.choice(ACTIONS)] for rank in victims]


def start(
    mark: Path, plan: list[list], ranks: int, slow: float, run: Path, config: Path, *changes: str
) -> subprocess.Popen:
    """Start a job that survives."""
    environment = os.environ | {
        "KILL_PLAN": json.dumps(plan), "KILL_MARK": str(mark), "KILL_SLOW": str(slow), "OPENBLAS_NUM_THREADS": "1",
        "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self,sm,tcp",
    }  # fmt: skip
    words = ["train", str(config), "-n", str(ranks), "--survive", "--plugin", str(PLUGIN)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "allgrad", *words, f"run.dir={run}", *changes],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def output_of(process: subprocess.Popen, patience: float) -> str:
    """What a job printed until its end; it is killed if that does not come."""
    try:
        output, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += "\nTIMEOUT"
    return output


def one(name: str, plan: list[list], ranks: int, slow: float, folder: Path, config: Path, memory: str) -> dict:
    """One run, and how it ended."""
    run, mark = folder / f"run-{name}", folder / f"mark-{name}"
    process = start(mark, plan, ranks, slow, run, config, f"parallel.memory={memory}")
    output = output_of(process, 240)
    struck = [float(file.read_text()) for file in folder.glob(f"mark-{name}-[0-9]*")]
    went_on: list[float] = []
    with contextlib.suppress(OSError):
        went_on = [float(line.split()[0]) for line in Path(f"{mark}-on").read_text().splitlines()]
    digest = lines = None
    with contextlib.suppress(OSError, ValueError):
        digest, lines = summary(run)["weights_sha256"], metrics(run)
    after = [moment - max(struck) for moment in went_on if struck and moment > max(struck)]
    return {
        "code": process.returncode, "digest": digest, "lines": lines, "joined": "a replacement joined" in output,
        "recovery": min(after, default=None), "output": output[-3000:],
    }  # fmt: skip


def ranks_of(mark: Path) -> list[int]:
    """The processes that are ranks of a job, replacements included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            words = (entry / "cmdline").read_bytes().split(b"\0")
            rank = b"allgrad" in words and any(one.startswith(b"OMPI_COMM_WORLD_RANK=") for one in variables)
            if rank and f"KILL_MARK={mark}".encode() in variables:
                found.append(int(entry.name))
    return found


def throughput(records: list[dict]) -> float:
    """The part of their time in which ranks trained; see the top of this file.

    Args:
        records: of each rank that reached the end, the moments when it had finished steps, and when it went on with others.
    """
    whole = lost = 0.0
    for record in records:
        finished = record["finished"]
        steps = [after - before for before, after in itertools.pairwise(finished)]
        usual = statistics.median(steps)
        whole += finished[-1] - finished[0]
        for step, (before, after) in zip(steps, itertools.pairwise(finished), strict=True):
            if any(before < moment < after for moment in record["went on"]):
                lost += step - usual
    return 1 - lost / whole


def many(minutes: float, calm: float, ranks: int, rng: random.Random, folder: Path, config: Path, memory: str) -> dict:
    """A job that loses one rank after the other, and gets each of them back."""
    slow, names = 0.1, (f"long-{memory}", f"many-{memory}")
    mark, run = folder / f"mark-{names[1]}", folder / f"run-{names[1]}"
    length = [
        "train.eval_every=null", "checkpoint.every=100", f"train.steps={int(60 * minutes / slow)}",
        f"parallel.memory={memory}",
    ]  # fmt: skip
    undisturbed = start(folder / f"mark-{names[0]}", [], ranks, 0.0, folder / f"run-{names[0]}", config, *length)
    before = output_of(undisturbed, 1200)
    process = start(mark, [], ranks, slow, run, config, *length)
    kills, complete, began = 0, time.monotonic(), time.monotonic()
    on, died = Path(f"{mark}-on"), 0
    while process.poll() is None and time.monotonic() - began < 240 * minutes:
        time.sleep(0.2)
        sizes = [int(line.split()[1]) for line in on.read_text().splitlines()] if on.exists() else []
        if len(sizes) < died or (sizes and sizes[-1] < ranks) or not run.exists():
            complete = time.monotonic()
        elif time.monotonic() - complete > calm:
            alive = ranks_of(mark)
            if len(alive) == ranks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(alive), signal.SIGKILL)
                    kills, died, complete = kills + 1, len(sizes) + 1, time.monotonic()
    output = output_of(process, 60)
    digests = [None, 0]
    with contextlib.suppress(OSError, ValueError):
        digests = [summary(folder / name)["weights_sha256"] for name in map("run-{}".format, names)]
    records = [json.loads(file.read_text()) for file in folder.glob(f"mark-{names[1]}-steps-*")]
    return {
        "right": digests[0] == digests[1], "kills": kills, "joins": output.count("a replacement joined"),
        "throughput": throughput(records) if records else 0.0, "minutes": minutes,
        "memory": memory, "output": before[-500:] + output[-3000:],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--joins", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--calm", type=float, default=60)
    parser.add_argument("--memory", nargs="+", choices=("rank", "node"), default=["rank", "node"])
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    ranks = arguments.ranks
    with tempfile.TemporaryDirectory(prefix="allgrad-survive-") as name:
        folder = Path(name)
        config = write_config(
            folder,
            train={"steps": STEPS, "early_stopping": None, "eval_every": EVAL},
            checkpoint={"every": EVERY},
        )
        calm = one("calm", [], ranks, 0.0, folder, config, "rank")
        if calm["digest"] is None:
            print(calm["output"])
            return 1
        results = []
        for number in range(arguments.kills + arguments.joins):
            joins = number >= arguments.kills
            plan = [["in a step", 2, number % ranks, "SIGKILL"]] if joins else plan_of(number, arguments.seed, ranks)
            memory = arguments.memory[number // 4 % len(arguments.memory)]
            result = one(str(number), plan, ranks, 0.5 if joins else 0.0, folder, config, memory)
            same = (result["code"], result["digest"], result["lines"]) == (0, calm["digest"], calm["lines"])
            result |= {
                "right": same and (result["joined"] or not joins),
                "joins": joins,
                "killed": len(plan),
                "memory": memory,
            }
            results.append(result)
            took = "" if result["recovery"] is None else f"on after {result['recovery']:.2f} s "
            who = ", ".join(f"{rank} {action}" for *_, rank, action in plan)
            where = f"{plan[0][0]} {plan[0][1]}"
            print(
                f"{number:3} {memory} {who:24} {where:24} {took}{'right' if result['right'] else 'WRONG'}", flush=True
            )
            if not result["right"]:
                print(result["output"])
        long = []
        for memory in arguments.memory if arguments.minutes else ():
            rng = random.Random(arguments.seed)
            long.append(many(arguments.minutes, arguments.calm, ranks, rng, folder, config, memory))
            if not long[-1]["right"]:
                print(long[-1]["output"])
    took = [result["recovery"] for result in results if result["recovery"] is not None]
    kills = [result for result in results if not result["joins"]]
    joins = [result for result in results if result["joins"]]
    counts = {
        "ranks": ranks, "kills": len(kills), "right": sum(result["right"] for result in kills),
        "two at once": sum(result["killed"] > 1 for result in kills),
        "memory node": sum(result["memory"] == "node" for result in kills),
        "joins": len(joins), "joined": sum(result["right"] for result in joins),
        "median recovery": statistics.median(took) if took else None, "longest recovery": max(took, default=None),
    }  # fmt: skip
    counts["long"] = [{key: value for key, value in each.items() if key != "output"} for each in long]
    print(json.dumps(counts))
    if arguments.output:
        arguments.output.write_text(json.dumps(counts))
    return int(not all(result["right"] for result in [*results, *long]))


if __name__ == "__main__":
    sys.exit(main())
