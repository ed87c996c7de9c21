"""Find, fetch and verify the data sets that the examples use.

Without options: says where the data set lies on this machine, and fetches it where it does not. Every file is compared
with its known sha256. With --to, the files are written there uncompressed, ready to be memory-mapped.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from allgrad.cli.errors import CommandError, UsageError
from allgrad.data.files import CATALOGUE, find, home, present

if TYPE_CHECKING:
    import argparse

Stream = gzip.GzipFile | io.BufferedReader
BLOCK = 1 << 20
SECONDS = 30  # without an answer for this long, a download has failed


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad data`."""
    names = "\n".join(f"{name:<14}{entry.title}" for name, entry in CATALOGUE.items())
    parser.add_argument("name", choices=CATALOGUE, metavar="NAME", help=names)
    parser.add_argument("--to", type=Path, metavar="DIR", help="write the files into this folder")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="take them from this folder")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad data`: prints the folder that holds the verified files as its last line."""
    name: str = arguments.name
    entry = CATALOGUE[name]
    source = _source(name, arguments.source)
    if arguments.to is None and arguments.source is None and source is not None:
        for file, sha256 in entry.files.items():
            path = present(source, file)
            assert path is not None  # find() saw it
            with _reader(path) as stream:
                _verify(stream, sha256, path)
        print(f"{name}: {len(entry.files)} file(s), sha256 as published, in\n{source}")
        return 0
    folder = arguments.to or home(name)
    folder.mkdir(parents=True, exist_ok=True)
    for file, sha256 in entry.files.items():
        _bring(file, sha256, source, name, folder)
    print(f"{name}: {len(entry.files)} file(s), sha256 as published, in\n{folder}")
    return 0


def _source(name: str, given: Path | None) -> Path | None:
    """The folder to take the files from; None where they have to be downloaded."""
    if given is None:
        try:
            return find(name)
        except FileNotFoundError:
            return None
    missing = [file for file in CATALOGUE[name].files if present(given, file) is None]
    if missing:
        raise UsageError(f"--from {given}: lacks {', '.join(missing)} (each may also be there as .gz)")
    return given


def _bring(file: str, sha256: str, source: Path | None, name: str, folder: Path) -> None:
    """Write `folder/file`, verified, by way of a temporary folder beside it; leave one that is already right."""
    target = folder / file
    if target.is_file():
        with target.open("rb") as stream:
            if _hash(stream) == sha256:
                return
    with tempfile.TemporaryDirectory(prefix=f".{file}.", dir=folder) as scratch:
        path = present(source, file) if source else None
        origin: Path | str = path or f"{CATALOGUE[name].url}/{file}.gz"
        if path is None:
            path = Path(scratch) / f"{file}.gz"
            _download(str(origin), path, name)
        unpacked = Path(scratch) / file
        with unpacked.open("wb") as out, _reader(path) as stream:
            _verify(stream, sha256, origin, out)
            out.flush()
            os.fsync(out.fileno())
        unpacked.replace(target)


def _reader(path: Path) -> Stream:
    """`path` opened for reading, unpacked if it is a .gz."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _download(url: str, path: Path, name: str) -> None:
    """Write what lies at `url` to `path`."""
    print(f"fetching {url}", flush=True)
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer, path.open("wb") as out:
            shutil.copyfileobj(answer, out, BLOCK)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise CommandError(_offline(url, name, getattr(error, "reason", error))) from error


def _offline(url: str, name: str, reason: object) -> str:
    entry = CATALOGUE[name]
    return (
        f"cannot fetch {url}: {reason}\n"
        "Without internet here:\n"
        f"  - Debian, Ubuntu: apt-get install {entry.package}   (then this command finds it), or\n"
        f"  - on a machine with internet: allgrad data {name} --to DIR; copy DIR here; allgrad data {name} --from DIR"
    )


def _hash(stream: Stream, out: BinaryIO | None = None) -> str:
    """The sha256 of what `stream` holds, copied to `out` on the way."""
    digest = hashlib.sha256()
    while block := stream.read(BLOCK):
        digest.update(block)
        if out is not None:
            out.write(block)
    return digest.hexdigest()


def _verify(stream: Stream, sha256: str, origin: Path | str, out: BinaryIO | None = None) -> None:
    """Read `stream` to its end (copying it to `out`).

    Raises:
        CommandError: it is not the file with this `sha256`, or a damaged archive.
    """
    try:
        got = _hash(stream, out)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CommandError(f"{origin} is damaged: {error}. Remove it and call this command again.") from error
    if got != sha256:
        raise CommandError(
            f"{origin} is not the published file: its sha256 is {got}, expected {sha256}. "
            "It may be cut short or changed; remove it and call this command again."
        )
