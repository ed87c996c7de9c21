"""Random mutations of configurations and of data files: each is accepted, or one clear error; never a traceback, hang or bomb.

    python tests/faults/campaigns/mutations.py --configurations 10000 --files 2000 [--seed 0] [-o mutations.json]

A configuration is mutated in its text (bytes changed, doubled, dropped, exchanged; tokens of other lines and hostile values put
in) and read as `allgrad train` reads it. A data file is mutated in its bytes and read as its data set does: csv, npy, npz, IDX,
tokens, text and Parquet (where pyarrow is installed). Anything but a result or an `AllgradError` counts as wrong, as do more than
ten seconds or more than 4 GiB of address space beyond the start.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.arrays import arrays_source
from allgrad.data.idx import read_idx
from allgrad.data.table_files import read_table
from allgrad.data.text import text_source, tokens_source
from allgrad.errors import AllgradError
from allgrad.train.config import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS, SPACE = 10, 4 << 30
CONFIGS = Path(__file__).parents[3] / "configs"
HOSTILE = [
    "null", "[]", "{}", ".nan", ".inf", "-1", "0", "1e400", "9" * 400, "true", "'1e5'", "&a [*a]", "!!python/object:os.system {}",
    "!!binary AAAA", "${a}", "${model}", "../..", "/dev/zero", "\\x00", "\t", "- - - -", "? :", "[" * 300, "{a: " * 200, "é" * 50,
    "2024-01-01", "0o17", "1:30", "<<: {}", "|", ">", "%YAML 9", "...", "---", "~", "=", "@", "`",
]  # fmt: skip


class TooLong(BaseException):
    """The time is over."""


def over(number: int, frame: Any) -> None:
    raise TooLong


def mutated_text(text: str, rng: random.Random) -> str:
    """A text with one to four random changes."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(lines))
        line = lines[place]
        kind = rng.randrange(7)
        if kind == 0 and ":" in line:
            lines[place] = line.partition(":")[0] + ": " + rng.choice(HOSTILE)
        elif kind == 1:
            lines[place] = rng.choice(lines)
        elif kind == 2:
            lines.insert(place, " " * rng.randrange(6) + rng.choice(lines).strip())
        elif kind == 3:
            del lines[place]
            lines = lines or [""]
        elif kind == 4 and line:
            at = rng.randrange(len(line))
            lines[place] = (
                line[:at] + chr(rng.choice([*range(1, 128), 0xE9, 0x2028, 0xFEFF])) + line[at + rng.randrange(2) :]
            )
        elif kind == 5:
            lines[place] = " " * rng.randrange(9) + line.strip()
        else:
            lines[place] = line + " " + rng.choice(HOSTILE)
    return "\n".join(lines)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        # Headers are where readers go wrong, so half of the changes are near the beginning.
        at = rng.randrange(min(len(data), 120)) if rng.random() < 0.5 else rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice([0, 1, 9, 10, 34, 44, 59, 127, 128, 255])
        elif kind == 2:
            del data[at : at + rng.randint(1, 20)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 20)]
        else:
            del data[at:]
    return bytes(data)


def saved(save: Callable[[Any], None]) -> bytes:
    """What `save` writes into a file."""
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def readers() -> dict[str, tuple[str, bytes, Callable[[str], Any]]]:
    """For each kind of file: its suffix, a good one, and what reads it."""
    rng = np.random.default_rng(0)
    rows = "\n".join(f"{i},{i * 0.5},{'red' if i % 3 else 'blue'},{i % 2}" for i in range(40))
    images = struct.pack(">IIII", 0x803, 4, 5, 5) + rng.integers(0, 255, 100, dtype=np.uint8).tobytes()
    arrays = {"inputs": rng.normal(size=(20, 3)).astype(np.float32), "targets": np.arange(20) % 3}
    text = "It is a way I have of driving off the spleen. " * 20
    given: dict[str, tuple[str, bytes, Callable[[str], Any]]] = {
        "csv": (".csv", f"a,b,c,d\n{rows}\n".encode(), read_table),
        "csv.gz": (".csv.gz", gzip.compress(f"a,b,c,d\n{rows}\n".encode(), mtime=0), read_table),
        "npz": (".npz", saved(lambda file: np.savez(file, **arrays)), read_arrays),
        "npz, deflated": (".npz", saved(lambda file: np.savez_compressed(file, **arrays)), read_arrays),
        "IDX": ("", images, read_idx),
        "IDX.gz": (".gz", gzip.compress(images, mtime=0), read_idx),
        "tokens (npy)": (".npy", saved(lambda file: np.save(file, np.arange(500, dtype=np.uint16) % 50)), read_tokens),
        "text": (
            ".txt",
            text.encode(),
            lambda path: text_source(path, unit="characters", context=8, valid=100, seed=0),
        ),
    }
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return given
    table = pa.table({"a": list(range(40)), "b": [i * 0.5 for i in range(40)], "c": ["red", "blue"] * 20})
    given["Parquet"] = (".parquet", saved(lambda file: pq.write_table(table, file)), read_table)
    return given


def read_arrays(path: str) -> Any:
    return arrays_source(
        path, None, task="classes", inputs="inputs", targets="targets", valid_fraction=0.2, split_seed=0, stratify=False
    )


def read_tokens(path: str) -> Any:
    return tokens_source(path, vocabulary_size=50, context=8, valid=100, seed=0)


def attempt(function: Callable[[], Any]) -> str:
    """How it ended: "accepted", "refused", or a traceback."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        function()
    except AllgradError:
        return "refused"
    except TooLong:
        return f"TOO LONG: more than {SECONDS} s"
    except BaseException:  # whatever it is, it is a failure
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "accepted"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, over)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPACE, resource.RLIM_INFINITY))
    counts: dict[str, dict[str, int]] = {}
    shown = 0

    def note(kind: str, result: str, content: str | bytes) -> None:
        nonlocal shown
        known = result if result in ("accepted", "refused") else "wrong"
        counts.setdefault(kind, {"accepted": 0, "refused": 0, "wrong": 0})[known] += 1
        if known == "wrong" and shown < 20:
            shown += 1
            print(f"--- {kind}\n{content[-1500:]!r}\n{result}", flush=True)

    texts = [path.read_text() for path in sorted(CONFIGS.glob("*.yaml"))]
    with tempfile.TemporaryDirectory(prefix="allgrad-mutations-") as name:
        file = Path(name) / "mutated.yaml"
        for number in range(arguments.configurations):
            rng = random.Random(f"{arguments.seed} configuration {number}")
            text = mutated_text(rng.choice(texts), rng)
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
            note("configurations", attempt(lambda: resolve(file)), text)
        for kind, (suffix, good, read) in readers().items():
            path = Path(name) / f"mutated{suffix}"
            path.write_bytes(good)
            assert attempt(lambda read=read, path=path: read(str(path))) == "accepted", kind
            for number in range(arguments.files):
                content = mutated_bytes(good, random.Random(f"{arguments.seed} {kind} {number}"))
                path.write_bytes(content)
                note(kind, attempt(lambda read=read, path=path: read(str(path))), content)
    print(json.dumps(counts))
    if arguments.output:
        arguments.output.write_text(json.dumps(counts))
    return int(any(count["wrong"] for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
