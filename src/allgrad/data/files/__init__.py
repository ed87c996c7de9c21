"""The data sets that the examples use: which files, their hashes, and where on this machine they lie.

Two come with the package, compressed (LICENCES.md). Fashion-MNIST is looked for in the folder of `home` and where
Debian's package `dataset-fashion-mnist` puts it; `allgrad data fashion-mnist` fills the first. Nothing here opens a
connection.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CATALOGUE", "Collection", "find", "home", "present"]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Collection:
    """One data set.

    Attributes:
        title: one line on what it is.
        files: uncompressed file name -> sha256 of the uncompressed file; each may be there as it is or as `.gz`.
        folders: where it may lie besides `home()`.
        url: the folder that it is published in, each file as `.gz`; "" for what comes with the package.
        package: Debian's package of it, or "".
    """

    title: str
    files: dict[str, str]
    folders: tuple[Path, ...]
    url: str = ""
    package: str = ""


CATALOGUE = {
    "moby-dick": Collection(
        title="Melville's Moby-Dick, 1.2 million characters (comes with allgrad)",
        files={"moby_dick.txt": "fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240"},
        folders=(HERE,),
    ),
    "diamonds": Collection(
        title="price and nine properties of 53,940 diamonds (comes with allgrad)",
        files={"diamonds.csv": "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4"},
        folders=(HERE,),
    ),
    "fashion-mnist": Collection(
        title="70,000 images of clothes, 28 x 28, ten classes (31 MB to fetch)",
        files={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        folders=(Path("/usr/share/datasets/fashion-mnist"),),
        url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        package="dataset-fashion-mnist",
    ),
}


def home(name: str) -> Path:
    """The folder that `allgrad data NAME` fills by default: `$ALLGRAD_DATA/NAME`, or one in the user's cache."""
    base = os.environ.get("ALLGRAD_DATA")
    if base:
        return Path(base) / name
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "allgrad" / name


def present(folder: Path, file: str) -> Path | None:
    """`folder/file` or `folder/file.gz`, whichever is there; None where neither is."""
    return next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None)


def find(name: str) -> Path:
    """The folder on this machine that holds all files of the data set `name`, each as it is or as `.gz`.

    Raises:
        ValueError: no data set has this name.
        FileNotFoundError: it is not on this machine; the message says which command brings it.

    >>> (find("moby-dick") / "moby_dick.txt.gz").is_file()
    True
    """
    if name not in CATALOGUE:
        raise ValueError(f"there is no data set {name!r}; known are {', '.join(sorted(CATALOGUE))}")
    wanted = CATALOGUE[name]
    folders = (home(name), *wanted.folders)
    for folder in folders:
        if all(present(folder, file) for file in wanted.files):
            return folder
    places = "\n".join(f"  {folder}" for folder in folders)
    raise FileNotFoundError(f"{name} is not on this machine; looked in\n{places}\nTo fetch it: allgrad data {name}")
