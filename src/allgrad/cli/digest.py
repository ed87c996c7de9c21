"""Print the SHA-256 of a run's weights: equal digests mean equal names, shapes and bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.errors import AllgradError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad digest`."""
    parser.add_argument("directory", metavar="RUN", help="the run's directory, or one of its checkpoints")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad digest`: the digest of the newest whole checkpoint, or of the checkpoint that is given."""
    from pathlib import Path

    from allgrad.train.checkpoint.format import load_newest, read_checkpoint, weights_sha256

    directory = Path(arguments.directory)
    if (directory / "manifest.json").is_file():
        checkpoint = read_checkpoint(directory)
    else:
        found = load_newest(directory / "checkpoints")
        if found is None:
            raise AllgradError(f"{directory} has no checkpoint.")
        checkpoint = found
    print(f"weights sha256 {weights_sha256(checkpoint.model)}")
    return 0
