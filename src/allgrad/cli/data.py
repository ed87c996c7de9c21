"""Find, fetch and verify the data sets that the examples use.

Without options: find the data set on this machine, or fetch it. Every file is compared with its published SHA-256. With --to,
the files are copied to that directory; with --from, they are taken from that directory instead of the network.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.data import DataError, fashion_mnist
from allgrad.data.sources import data_path, read_bytes, verify_sha256

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


@dataclass(frozen=True)
class Collection:
    """One data set: its title, its files with the SHA-256 of their uncompressed content, and whether it comes with allgrad."""

    title: str
    files: dict[str, str]
    comes_along: bool = True


COLLECTIONS = {
    "moby-dick": Collection(
        "Melville's Moby-Dick, 1.2 million characters (comes with allgrad)",
        {"moby_dick.txt.gz": "fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240"},
    ),
    "diamonds": Collection(
        "price and nine properties of 53,940 diamonds (comes with allgrad)",
        {"diamonds.csv.gz": "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4"},
    ),
    "fashion-mnist": Collection(
        "70,000 images of clothes, 28 x 28, ten classes (31 MB to fetch)", fashion_mnist.FILES, comes_along=False
    ),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad data`."""
    names = "\n".join(f"{name:<14} {entry.title}" for name, entry in COLLECTIONS.items())
    parser.add_argument("name", choices=COLLECTIONS, metavar="NAME", help=names)
    parser.add_argument("--to", type=Path, metavar="DIR", help="copy the files to this directory")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="take them from this directory")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad data`: its last line is the directory that holds the verified files."""
    entry = COLLECTIONS[arguments.name]
    source = arguments.source or _here(entry)
    target = arguments.to
    if source is None:
        print(f"fetching from {fashion_mnist.PUBLISHED}", flush=True)
        source = fashion_mnist.download_fashion_mnist(target)
    elif arguments.source is not None and not entry.comes_along:
        target = target or fashion_mnist.cache_directory()
    for name, sha256 in entry.files.items():
        verify_sha256(read_bytes(source / name), sha256, str(source / name))
    if target is not None and target != source:
        _copy(entry.files, source, target)
    print(f"{arguments.name}: {len(entry.files)} file(s), SHA-256 as published, in\n{target or source}")
    return 0


def _here(entry: Collection) -> Path | None:
    """The directory on this machine that has the files; None if they must be fetched."""
    if entry.comes_along:
        return data_path(f"package:{next(iter(entry.files))}").parent
    try:
        return fashion_mnist.find_fashion_mnist()
    except DataError:
        return None


def _copy(names: dict[str, str], source: Path, target: Path) -> None:
    """Copy the files; each appears in `target` whole or not at all."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".copying-", dir=target) as scratch:
        for name in names:
            shutil.copyfile(source / name, Path(scratch) / name)
            (Path(scratch) / name).replace(target / name)
