"""Run the campaigns, and write their counts into docs/reliability.md; the exit code is 1 if anything was wrong."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from allgrad.cli.mpirun import find_mpirun

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- counts: written by launch/test.sh --faults -->", "<!-- end of counts -->"


Row = tuple[str, int, str]


def kills(found: dict) -> list[Row]:
    right = f"{found['right after a kill']:,} ended in the undisturbed weights"
    return [(f"a rank of a supervised job of {found['ranks']} was killed, stopped or left", found["kills"], right)]


def damage(found: dict) -> list[Row]:
    refused = "refused by name, and the one before used"
    rows = [
        ("one bit of a checkpoint was flipped", "flips", "flips accepted", refused),
        (
            "one bit of another file of a run was flipped",
            "flips in other files",
            "flips in other files unseen",
            "refused or reported by name",
        ),
        ("a file of a checkpoint was cut", "truncations", "truncations accepted", refused),
        ("one bit of weights was flipped in memory", "flips in memory", "flips in memory unseen", "found"),
    ]
    return [(what, found[times], f"{found[times] - found[missed]:,} {said}") for what, times, missed, said in rows]


def survive(found: dict) -> list[Row]:
    took = f"training went on after {found['median recovery']:.2f} s (median; {found['longest recovery']:.2f} at most)"
    same = "ended in the undisturbed weights and reports"
    rows = [
        (
            f"a rank, or two at once, of a job of {found['ranks']} with --survive was killed",
            found["kills"],
            f"{found['memory node']:,} with memory: node; {found['right']:,} went on without a restart and {same}; {took}",
        ),
        ("a replacement joined such a job", found["joins"], f"{found['joined']:,} {same}"),
    ]
    for one in found["long"]:
        ended = "it ended in the undisturbed weights" if one["right"] else "WRONG weights at the end"
        trained = f"{one['joins']} replacements joined, live ranks trained for {one['throughput']:.1%} of their time"
        job = f"one job of {one['minutes']:g} minutes (memory: {one['memory']}) lost a rank again and again"
        rows.append((job, one["kills"], f"{ended}; {trained}"))
    return rows


def nodes(found: dict) -> list[Row]:
    what = f"a host of a supervised job over two hosts was killed ({found['mpi']})"
    return [
        (what, found["node kills"], f"{found['right']:,} of {found['runs']:,} runs ended in the undisturbed weights")
    ]


def limits(found: dict) -> list[Row]:
    return [("something ran out (below)", found["cases"], f"{found['right']:,} ended with the reason, or went on")]


def soak(found: dict) -> list[Row]:
    first, last = (", ".join(f"{value:g}" for value in found["rank"][when]) for when in ("first", "last"))
    said = f"MiB, open files, threads of a rank: {first} after the first minute, {last} at the end"
    return [(f"kills within {found['minutes']:g} minutes of training", found["kills"], said)]


def mutations(found: dict) -> list[Row]:
    return [
        (
            f"mutated: {kind}",
            sum(count.values()),
            f"{count['refused']:,} refused with a message, {count['accepted']:,} still good, {count['wrong']:,} wrong",
        )
        for kind, count in found.items()
    ]


CAMPAIGNS = (kills, damage, survive, nodes, limits, soak, mutations)
"""Each turns what the script of its name has counted into rows of the table."""


def table(found: dict[str, dict]) -> str:
    """The counts, as Markdown; `found`: those of each campaign that was run."""
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    lines = [
        f"Counted on {time.strftime('%Y-%m-%d')} ({machine}):",
        "",
        "| what was done | times | what came of it |",
        "|---|---|---|",
    ]
    rows = [row for campaign in CAMPAIGNS if campaign.__name__ in found for row in campaign(found[campaign.__name__])]
    return "\n".join([*lines, *(f"| {what} | {times:,} | {result} |" for what, times, result in rows)])


def why_not(name: str, flavour: str) -> str:
    """Why a campaign cannot be run here; "" if it can."""
    if name == "survive" and flavour != "openmpi":
        return "needs Open MPI"
    if name in ("nodes", "limits") and os.geteuid() != 0:
        return "needs root"
    if name == "nodes" and not Path("/usr/sbin/sshd").exists():
        return "needs openssh-server"
    return ""


def main() -> int:
    found, wrong = {}, False
    said = subprocess.run([find_mpirun(), "--version"], capture_output=True, text=True).stdout
    flavour = "openmpi" if "Open MPI" in said else "mpich"
    with tempfile.TemporaryDirectory(prefix="allgrad-campaigns-") as place:
        for name in (campaign.__name__ for campaign in CAMPAIGNS):
            if reason := why_not(name, flavour):
                print(f"{name}: left out, {reason}", flush=True)
                continue
            output = Path(place) / f"{name}.json"
            options = ["--mpi", flavour] if name == "nodes" else []
            done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *options, "-o", str(output)], check=False)
            wrong |= done.returncode != 0
            if output.exists():
                found[name] = json.loads(output.read_text())
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", encoding="utf-8")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
