"""Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017; MIT licence): find it or download it, and verify it.

It consists of four IDX files with 60,000 and 10,000 grey images of 28 x 28 pixels in ten classes. They are looked for in the
directory that the caller gives; without one, in `$ALLGRAD_DATA/fashion-mnist` or the user's cache, and then where Debian's
package `dataset-fashion-mnist` installs them. A file is used only if the SHA-256 of its uncompressed content is the published
one.
"""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allgrad.data.digest import content_digest
from allgrad.data.errors import DataError
from allgrad.data.idx import parse_idx
from allgrad.data.images import Augmentation, image_source
from allgrad.data.sources import read_bytes, verify_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.data.datasets import DataSource

__all__ = [
    "CLASSES",
    "FILES",
    "PUBLISHED",
    "cache_directory",
    "download_fashion_mnist",
    "fashion_mnist_source",
    "find_fashion_mnist",
]

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""File name to the SHA-256 of its uncompressed content."""

PUBLISHED = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
"""Where its authors publish it. Downloaded files are verified before they are used."""

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def cache_directory() -> Path:
    """Where downloads go: `fashion-mnist` in `$ALLGRAD_DATA`, or else in `$XDG_CACHE_HOME/allgrad` or `~/.cache/allgrad`."""
    if "ALLGRAD_DATA" in os.environ:
        return Path(os.environ["ALLGRAD_DATA"]) / "fashion-mnist"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "allgrad" / "fashion-mnist"


def find_fashion_mnist(directory: str | None = None) -> Path:
    """The directory with the four files.

    Raises:
        DataError: when no candidate has all four; the message lists the candidates and says what to do.
    """
    candidates = [Path(directory).expanduser()] if directory else [cache_directory(), DEBIAN]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in FILES):
            return candidate
    places = ", ".join(str(candidate) for candidate in candidates)
    raise DataError(
        f"fashion_mnist: not found in {places}. Download it with `allgrad data fashion-mnist`, or install Debian's package "
        f"dataset-fashion-mnist. Without a network, copy the four files ({', '.join(FILES)}) there, or set data.directory "
        "to the directory that has them."
    )


def download_fashion_mnist(target: Path | None = None, url: str = PUBLISHED, timeout: float = 60.0) -> Path:
    """Download the four files into `target` (default: the cache), verify them, and return the directory.

    A file gets its name only when it is complete and verified. Files that exist already are verified and not downloaded again.

    Raises:
        DataError: when the server cannot be reached, the directory cannot be written, or the content is not the published one.
    """
    directory = target or cache_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, digest in FILES.items():
            path = directory / name
            if not path.is_file():
                _fetch(f"{url}/{name}", path, digest, timeout)
            verify_sha256(read_bytes(path), digest, str(path))
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise DataError(
            f"fashion_mnist: {url} cannot be reached ({getattr(error, 'reason', error)}). Without a network, copy the "
            f"files {', '.join(FILES)} into {directory}, or install Debian's package dataset-fashion-mnist."
        ) from error
    except OSError as error:
        raise DataError(f"fashion_mnist: {directory}: cannot be written: {error.strerror or error}.") from error
    return directory


def fashion_mnist_source(
    directory: str | None, *, augmentation: Augmentation, seed: int, fitted: Mapping[str, Any] | None = None
) -> DataSource:
    """The 60,000 training and 10,000 test images; `info.extra["classes"]` has the names of the classes.

    Raises:
        DataError: when the files are not found, or are not the published ones.
    """
    place = find_fashion_mnist(directory)
    arrays = []
    for name, digest in FILES.items():
        content = read_bytes(place / name)
        verify_sha256(content, digest, str(place / name))
        arrays.append(parse_idx(content, str(place / name)))
    source = image_source(
        (arrays[0], arrays[1]),
        (arrays[2], arrays[3]),
        augmentation=augmentation,
        seed=seed,
        what="fashion_mnist",
        fitted=fitted,
        digest=content_digest(*(digest.encode() for digest in FILES.values())),
    )
    return replace(source, info=replace(source.info, extra={**source.info.extra, "classes": list(CLASSES)}))


def _fetch(url: str, path: Path, digest: str, timeout: float) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as reply, partial.open("wb") as file:
            shutil.copyfileobj(reply, file)
        verify_sha256(read_bytes(partial), digest, url)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
