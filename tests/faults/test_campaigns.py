"""The campaigns of `launch/test.sh --faults` in a short form: damage and mutations. For kills see tests/cli/test_supervise.py."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

CAMPAIGNS = Path(__file__).parent / "campaigns"


def counted(tmp_path: Path, name: str, *options: str) -> dict:
    """What a campaign counts; it must find nothing wrong."""
    output = tmp_path / "counts.json"
    command = [sys.executable, str(CAMPAIGNS / f"{name}.py"), *options, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text())


def test_damage_is_refused(tmp_path) -> None:
    counts = counted(tmp_path, "damage", "--flips", "40", "--truncations", "20", "--memory", "20")
    assert (counts["flips"], counts["truncations"], counts["flips in memory"]) == (40, 20, 20)
    assert (counts["flips in other files"], counts["flips in other files unseen"]) == (40, 0)


def test_mutations_are_accepted_or_refused(tmp_path) -> None:
    counts = counted(tmp_path, "mutations", "--configurations", "60", "--files", "25", "--seed", "1")
    assert {"configurations", "csv", "npz", "IDX", "tokens (npy)", "text"} <= set(counts)
    assert all(count["wrong"] == 0 and count["refused"] > 0 for count in counts.values())


def test_the_table(tmp_path) -> None:
    script = runpy.run_path(str(CAMPAIGNS / "all.py"))
    damage = {"flips": 2000, "flips accepted": 1, "truncations": 2, "truncations accepted": 0}
    damage |= {"flips in other files": 2000, "flips in other files unseen": 0}
    damage |= {"flips in memory": 3, "flips in memory unseen": 0}
    mutations = {"csv": {"accepted": 1, "refused": 5, "wrong": 0}}
    survive = {"ranks": 4, "kills": 40, "memory node": 20, "right": 39, "joins": 10, "joined": 10}
    survive |= {"median recovery": 0.12, "longest recovery": 1.5}
    survive["long"] = [{"right": True, "kills": 9, "joins": 8, "throughput": 0.9812, "minutes": 5.0, "memory": "node"}]
    found = {"kills": {"ranks": 4, "kills": 100, "right after a kill": 99}, "damage": damage, "mutations": mutations}
    found |= {"survive": survive, "nodes": {"node kills": 19, "runs": 20, "right": 20, "mpi": "mpich"}}
    kept: dict = {}
    for name, counted in found.items():
        kept |= script["rows_of"](name, counted)
    kept |= script["rows_of"]("nodes", found["nodes"] | {"mpi": "openmpi"})
    text = script["table"](kept)
    assert list(kept)[-2:] == ["nodes (mpich)", "nodes (openmpi)"]
    assert "| a replacement joined such a job | 10 | 10 ended in the undisturbed weights and reports |" in text
    assert "| 40 | 20 with memory: node; 39 went on without a restart" in text
    assert "| one job of 5 minutes (memory: node) lost a rank again and again | 9 |" in text
    assert "8 replacements joined, live ranks trained for 98.1% of their time |" in text
    assert "two hosts was killed (mpich) | 19 | 20 of 20 runs ended" in text
    assert "| one bit of a checkpoint was flipped | 2,000 | 1,999 refused by name, and the one before used |" in text
    assert "| mutated: csv | 6 | 5 refused with a message, 1 still good, 0 wrong |" in text
