"""The configurations in examples/launchers: what makes each small, and the command that its comment gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "launchers"

_COMMON = ["train.steps=2", "train.eval_every=null", "train.early_stopping=null", "logging.progress=none"]
_TEXT = ["model.layers=1", "model.width=16", "model.heads=2", "data.context=16", "data.valid=2000", "logging.sample=0"]


def small(name: str, images: str) -> list[str]:
    """Overrides with which a configuration takes seconds; `images`: the folder of `write_images` as the run will see it."""
    idx = [f"data.{part}={images}/{part}.idx" for part in IDX]
    changes = {
        "local": _TEXT,
        "slurm": _TEXT,
        "hostfile": ["data.grid=12"],
        "pbs": ["model.hidden=[8]", "batch.eval_size=6000"],
        "kubernetes": ["data.name=idx", *idx, "model.name=mlp", "batch.size=16"],
    }
    return [*_COMMON, *changes[name]]


def command(name: str) -> str:
    """The shell commands in the comment that a configuration opens with: its lines that are indented."""
    comment = (FOLDER / f"{name}.yaml").read_text().partition("\nextends")[0]
    return "\n".join(line[4:] for line in comment.splitlines() if line.startswith("#   "))


IDX = {"train_images": (40, 16, 16), "train_labels": (40,), "valid_images": (12, 16, 16), "valid_labels": (12,)}


def write_images(folder: Path) -> None:
    """Small IDX files: images of ten classes."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for name, shape in IDX.items():
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        content = rng.integers(0, 10, shape, np.uint8)
        (folder / f"{name}.idx").write_bytes(head + content.tobytes())
