"""Run campaigns, and write their counts into docs/reliability.md; the exit code is 1 if anything was wrong.

    python tests/faults/campaigns/all.py [CAMPAIGN ...]                     all of them, or those that are named
    python tests/faults/campaigns/all.py --result soak=soak.json            what `soak.py -o soak.json` has counted elsewhere

The rows of each campaign are kept in counts.json beside this file, so that the table keeps those of the others.
"""

from __future__ import annotations

import argparse
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
COUNTS = HERE / "counts.json"
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


def rows_of(name: str, found: dict) -> dict:
    """The rows of a campaign, as counts.json keeps them: where it differs by the MPI library, under a key for each."""
    campaign = next(one for one in CAMPAIGNS if one.__name__ == name)
    key = f"{name} ({found['mpi']})" if "mpi" in found else name
    return {key: {"date": time.strftime("%Y-%m-%d"), "rows": campaign(found)}}


def table(kept: dict[str, dict]) -> str:
    """The counts, as Markdown; `kept`: the rows of each campaign, by its name."""
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    lines = [
        f"Counted on {machine}:",
        "",
        "| what was done | times | what came of it | on | by `launch/test.sh --faults` |",
        "|---|---|---|---|---|",
    ]
    order = [campaign.__name__ for campaign in CAMPAIGNS]
    for key in sorted(kept, key=lambda key: (order.index(key.partition(" ")[0]), key)):
        name, date = key.partition(" ")[0], kept[key]["date"]
        lines += [f"| {what} | {times:,} | {result} | {date} | `{name}` |" for what, times, result in kept[key]["rows"]]
    return "\n".join(lines)


def why_not(name: str, flavour: str) -> str:
    """Why a campaign cannot be run here; "" if it can."""
    if name == "survive" and flavour != "openmpi":
        return "needs Open MPI"
    if name in ("nodes", "limits") and os.geteuid() != 0:
        return "needs root"
    if name == "nodes" and not Path("/usr/sbin/sshd").exists():
        return "needs openssh-server"
    return ""


def run(name: str, flavour: str, place: Path) -> tuple[bool, dict]:
    """Run a campaign; whether all was right, and its rows."""
    if reason := why_not(name, flavour):
        print(f"{name}: left out, {reason}", flush=True)
        return True, {}
    output = place / f"{name}.json"
    options = ["--mpi", flavour] if name == "nodes" else []
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *options, "-o", str(output)], check=False)
    return done.returncode == 0, rows_of(name, json.loads(output.read_text())) if output.exists() else {}


def main() -> int:
    names = [campaign.__name__ for campaign in CAMPAIGNS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(names))
    parser.add_argument("--result", action="append", default=[], metavar="CAMPAIGN=FILE")
    arguments = parser.parse_args()
    results = dict(text.split("=", 1) for text in arguments.result)
    chosen = arguments.campaigns or ([] if results else names)
    if unknown := sorted({*chosen, *results} - set(names)):
        parser.error(f"there is no campaign {unknown[0]}; there are {', '.join(names)}")
    kept = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    for name, file in results.items():
        kept |= rows_of(name, json.loads(Path(file).read_text()))
    said = subprocess.run([find_mpirun(), "--version"], capture_output=True, text=True).stdout
    flavour, right = "openmpi" if "Open MPI" in said else "mpich", True
    with tempfile.TemporaryDirectory(prefix="allgrad-campaigns-") as place:
        for name in chosen:
            good, rows = run(name, flavour, Path(place))
            right, kept = right and good, kept | rows
    COUNTS.write_text(json.dumps(kept, indent=1) + "\n")
    before, after = (text := PAGE.read_text(encoding="utf-8")).split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(kept)}\n{END}{after}", encoding="utf-8")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
