"""Every reader, given randomly damaged files: it reads them or raises a DataError with one line that names the file.

The environment variable ALLGRAD_MUTATIONS sets the number of damaged files per reader (300 by default).
"""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.arrays import arrays_source
from allgrad.data.idx import read_idx
from allgrad.data.npy import open_array
from allgrad.data.tables import Columns, table_source
from allgrad.data.text import text_source, tokens_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allgrad.data import DataSource

ROUNDS = int(os.environ.get("ALLGRAD_MUTATIONS", "300"))
RNG = np.random.default_rng(0)


def read_table(path: Path) -> DataSource:
    columns = Columns("price", numeric=("size",), categorical=("colour",), transform="log1p")
    return table_source(str(path), columns, valid_fraction=0.3, split_seed=0)


def read_classes(path: Path) -> DataSource:
    return table_source(str(path), Columns("colour", "classes", ("size",)), valid_fraction=0.3, split_seed=0)


def read_text(path: Path) -> DataSource:
    return text_source(str(path), unit="characters", context=4, valid=10, seed=0)


def read_tokens(path: Path) -> DataSource:
    return tokens_source(str(path), vocabulary_size=99, context=4, valid=10, seed=0)


def read_arrays(task: Any) -> Callable[[Path], DataSource]:
    options: dict[str, Any] = {"inputs": "inputs", "targets": "targets", "valid_fraction": 0.25, "split_seed": 0}
    return lambda path: arrays_source(str(path), None, task=task, **options)


def saved(path: Path, save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    save(path, *arrays, **named)
    return path.read_bytes()


def originals(tmp_path: Path) -> dict[str, tuple[bytes, str, Callable[[Path], Any]]]:
    """For each case: the undamaged content, the file's name, and the reader."""
    table = "size,colour,price\n" + "".join(f'{i / 4},"{["red", "blue"][i % 2]}",{2.0**i}\n' for i in range(20))
    pair = {"inputs": RNG.random((20, 3)), "targets": np.arange(20) % 4}
    images = bytes([0, 0, 8, 3]) + np.array([5, 4, 3], ">u4").tobytes() + RNG.bytes(60)
    tokens = saved(tmp_path / "o.npy", np.save, np.arange(50))
    return {
        "table": (table.encode(), "t.csv", read_table),
        "classes": (table.encode(), "t.csv", read_classes),
        "packed table": (gzip.compress(table.encode()), "t.csv.gz", read_table),
        "text": (("Call me Ishmael. ☃ " * 9).encode(), "t.txt", read_text),
        "packed text": (gzip.compress(RNG.bytes(50).hex().encode()), "t.txt", read_text),
        "idx": (images, "t.idx", lambda path: read_idx(str(path))),
        "packed idx": (gzip.compress(images), "t.idx", lambda path: read_idx(str(path))),
        "npy": (saved(tmp_path / "o.npy", np.save, pair["inputs"]), "t.npy", open_array),
        "tokens": (tokens, "t.npy", read_tokens),
        "npz": (saved(tmp_path / "o.npz", np.savez, **pair), "t.npz", read_arrays("classes")),
        "packed npz": (saved(tmp_path / "o.npz", np.savez_compressed, **pair), "t.npz", read_arrays("values")),
    }


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content after one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(1, 9))
        match rng.integers(0, 7):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = rng.bytes(length)
            case 3:
                data[at : at + length] = rng.bytes(length)
            case 4:
                data[at : at + length] = bytes([rng.choice([0, 0xFF, 0x7F, 0x80, ord("9"), ord(","), 10])]) * length
            case 5:
                data[at:at] = data[at : at + 40]
            case 6 if at < len(data):
                data[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


CASES = (
    *("table", "classes", "packed table", "text", "packed text", "idx", "packed idx"),
    *("npy", "tokens", "npz", "packed npz"),
)


@pytest.mark.parametrize("case", CASES)
def test_damaged_files(tmp_path: Path, case: str) -> None:
    content, name, read = originals(tmp_path)[case]
    path = tmp_path / name
    path.write_bytes(content)
    read(path)
    refusals = []
    for seed in range(ROUNDS):
        path.write_bytes(damaged(content, np.random.default_rng([seed, len(case)])))
        try:
            found = read(path)
            for subset in (found.train, found.valid) if hasattr(found, "train") else ():
                subset.batch(np.arange(len(subset)))
        except DataError as error:
            refusals.append(str(error))
        except Exception as error:
            raise AssertionError(f"round {seed}: {type(error).__name__}: {error}") from error
    assert len(refusals) > ROUNDS / 20
    for message in refusals:
        assert message.startswith(str(path))
        assert "\n" not in message
