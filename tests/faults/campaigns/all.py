"""Run the campaigns, and write their counts into docs/reliability.md; the exit code is 1 if anything was wrong."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- counts: written by launch/test.sh --faults -->", "<!-- end of counts -->"


def table(kills: dict, damage: dict, mutations: dict) -> str:
    """The counts, as Markdown."""
    ranks, runs, right = kills["ranks"], kills["runs"], kills["right"]
    flips, cuts, memory = damage["flips"], damage["truncations"], damage["flips in memory"]
    refused = "refused by name, and the one before used"
    rows = [
        (
            f"a rank of a supervised job of {ranks} was killed, stopped or left",
            runs,
            f"{right:,} ended in the undisturbed weights",
        ),
        ("one bit of a checkpoint was flipped", flips, f"{flips - damage['flips accepted']:,} {refused}"),
        ("a file of a checkpoint was cut", cuts, f"{cuts - damage['truncations accepted']:,} {refused}"),
        ("one bit of weights was flipped in memory", memory, f"{memory - damage['flips in memory unseen']:,} found"),
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
        for campaign in ("kills", "damage", "mutations"):
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
