"""Random damage to checkpoints and to weights in memory: each must be refused by name, and the checkpoint before be used.

    python tests/faults/campaigns/damage.py --flips 2000 --truncations 200 --memory 200 [--seed 0] [-o damage.json]

A run of two checkpoints is made once. Then one random bit of one random file of the newest checkpoint is flipped, or the file is
cut at a random byte, and the run is opened: what is read must be the checkpoint before, with a message that names the newest.
As many bits are flipped in config.yaml, provenance.json, metrics.jsonl and summary.json: reading the run must name the file,
unless only the name of a digest was hit. Flipped bits in memory must change the fingerprint that ranks compare
(`parallel.verify_every`).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from runs import train
from small_run import write_config

from allgrad.errors import AllgradError
from allgrad.report.run_files import read_run
from allgrad.train.checkpoint.format import load_latest, weights_sha256
from allgrad.train.config import resolve
from allgrad.train.replica_check import fingerprint


def damaged(directory: Path, rng: random.Random, cut: bool) -> tuple[Path, bytes]:
    """Damage one file of a checkpoint; the file and what it held."""
    file = rng.choice(sorted(path for path in directory.iterdir() if path.stat().st_size))
    before = file.read_bytes()
    place = rng.randrange(len(before))
    if cut:
        file.write_bytes(before[:place])
    else:
        content = bytearray(before)
        content[place] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
    return file, before


def accepted(checkpoints: Path, count: int, rng: random.Random, cut: bool, expected: str) -> int:
    """How many damages were not refused by name."""
    newest = max(checkpoints.glob("step-*"))
    wrong = 0
    for _ in range(count):
        file, before = damaged(newest, rng, cut)
        try:
            found, refused = load_latest(checkpoints)
            good = found is not None and found.path != newest and weights_sha256(found.model) == expected
            good = good and len(refused) == 1 and str(newest) in refused[0]
        except Exception as error:
            print(f"{file.name}: {type(error).__name__}: {error}")
            good = False
        wrong += not good
        file.write_bytes(before)
    return wrong


def read_in_silence(run: Path, count: int, rng: random.Random) -> int:
    """How many flipped bits in the other files of a run are not noticed, although what they hold has changed."""
    missed = 0
    whole = read_run(run)
    for _ in range(count):
        file = run / rng.choice(["config.yaml", "provenance.json", "metrics.jsonl", "summary.json"])
        before = file.read_bytes()
        content = bytearray(before)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        try:
            resolve(run / "config.yaml")
            found = read_run(run)
            kept = all(found.summary.get(key) == value for key, value in whole.summary.items() if "sha256" not in key)
            same = (found.config, found.provenance) == (whole.config, whole.provenance) and kept
            noticed = any(str(file) in text for text in found.damaged)
        except AllgradError as error:
            same, noticed = False, str(file) in str(error)
        missed += not (noticed or (same and file.name in ("config.yaml", "summary.json")))
        file.write_bytes(before)
    return missed


def unseen(count: int, rng: random.Random) -> int:
    """How many flipped bits in arrays do not change the fingerprint."""
    arrays = [np.random.default_rng(0).normal(size=size).astype(np.float32) for size in (17, 4096, 100_003)]
    before, missed = fingerprint(arrays), 0
    for _ in range(count):
        words = rng.choice(arrays).view(np.uint32)
        place, bit = rng.randrange(words.size), np.uint32(1 << rng.randrange(32))
        words[place] ^= bit
        missed += fingerprint(arrays) == before
        words[place] ^= bit
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--truncations", type=int, default=200)
    parser.add_argument("--memory", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="allgrad-damage-") as name:
        run = Path(name) / "run"
        train(write_config(Path(name)), run, "train.steps=10", "checkpoint.every=5", "train.early_stopping=null")
        checkpoints = run / "checkpoints"
        newest, before = sorted(checkpoints.glob("step-*"), reverse=True)[:2]
        newest.rename(run / "aside")
        found, _ = load_latest(checkpoints)
        assert found is not None
        assert found.path == before
        (run / "aside").rename(newest)
        expected = weights_sha256(found.model)
        result = {
            "flips": arguments.flips,
            "flips accepted": accepted(checkpoints, arguments.flips, rng, False, expected),
            "flips in other files": arguments.flips,
            "flips in other files unseen": read_in_silence(run, arguments.flips, rng),
            "truncations": arguments.truncations,
            "truncations accepted": accepted(checkpoints, arguments.truncations, rng, True, expected),
            "flips in memory": arguments.memory,
            "flips in memory unseen": unseen(arguments.memory, rng),
        }
    print(json.dumps(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(result))
    return int(any(value for key, value in result.items() if key.endswith(("accepted", "unseen"))))


if __name__ == "__main__":
    sys.exit(main())
