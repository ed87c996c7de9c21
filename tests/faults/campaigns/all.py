"""Run the campaigns, and write their counts into docs/reliability.md; the exit code is 1 if anything was wrong."""

from __future__ import annotations

import json
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


def table(kills: dict, damage: dict, mutations: dict, survive: dict | None = None) -> str:
    """The counts, as Markdown; `survive` where there is Open MPI."""
    ranks, struck, right = kills["ranks"], kills["kills"], kills["right after a kill"]
    flips, cuts, memory = damage["flips"], damage["truncations"], damage["flips in memory"]
    refused = "refused by name, and the one before used"
    rows = [
        (
            f"a rank of a supervised job of {ranks} was killed, stopped or left",
            struck,
            f"{right:,} ended in the undisturbed weights",
        ),
        ("one bit of a checkpoint was flipped", flips, f"{flips - damage['flips accepted']:,} {refused}"),
        (
            "one bit of another file of a run was flipped",
            damage["flips in other files"],
            f"{damage['flips in other files'] - damage['flips in other files unseen']:,} refused or reported by name",
        ),
        ("a file of a checkpoint was cut", cuts, f"{cuts - damage['truncations accepted']:,} {refused}"),
        ("one bit of weights was flipped in memory", memory, f"{memory - damage['flips in memory unseen']:,} found"),
    ]
    if survive is not None:
        took = f"training went on after {survive['median recovery']:.2f} s (median; {survive['longest recovery']:.2f} at most)"
        rows += [
            (
                f"a rank, or two at once, of a job of {survive['ranks']} with --survive was killed",
                survive["kills"],
                f"{survive['right']:,} went on without a restart and ended in the undisturbed weights and reports; {took}",
            ),
            (
                "a replacement joined such a job",
                survive["joins"],
                f"{survive['joined']:,} ended in the undisturbed weights and reports",
            ),
        ]
    for kind, count in mutations.items():
        said = (
            f"{count['refused']:,} refused with a message, {count['accepted']:,} still good, {count['wrong']:,} wrong"
        )
        rows.append((f"mutated: {kind}", sum(count.values()), said))
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    lines = [
        f"Counted on {time.strftime('%Y-%m-%d')} ({machine}):",
        "",
        "| what was done | times | what came of it |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {what} | {times:,} | {result} |" for what, times, result in rows)])


def main() -> int:
    results, wrong = [], False
    with tempfile.TemporaryDirectory(prefix="allgrad-campaigns-") as name:
        open_mpi = "Open MPI" in subprocess.run([find_mpirun(), "--version"], capture_output=True, text=True).stdout
        for campaign in ("kills", "damage", "mutations", *(["survive"] if open_mpi else [])):
            output = Path(name) / f"{campaign}.json"
            done = subprocess.run([sys.executable, str(HERE / f"{campaign}.py"), "-o", str(output)], check=False)
            wrong |= done.returncode != 0
            results.append(json.loads(output.read_text()))
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(*results)}\n{END}{after}", encoding="utf-8")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
