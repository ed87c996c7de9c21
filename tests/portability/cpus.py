"""One digest for every CPU: short runs of the shipped configurations under settings that stand for other CPUs.

    python tests/portability/cpus.py                       # all; about 10 minutes on two cores
    python tests/portability/cpus.py diamonds adafactor    # some
    python tests/portability/cpus.py --print diamonds DIRECTORY   # the words after `allgrad train`, one per line

Each column is a setting: NumPy without its code for newer CPUs, OpenBLAS for another CPU, the compiler for another CPU, tiles of
other vector lengths (LLVM splits what this CPU has no registers for, so AVX-512's and Arm's loops run here too), two threads, and
two and three ranks. A row is right if all digests of the numba kernels are equal. The last two columns show that the NumPy
kernels do depend on the CPU. The exit code is 1 if a row is wrong. Rows of
images train on random ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("train.steps=3", "train.eval_every=3", "train.log_every=1", "checkpoint.every=null", "logging.progress=none")
IMAGES = ("data.name=idx", "optimizer.schedule.warmup=1", "batch.eval_size=128")
TEXT = ("@moby_dick", "data.context=40", "batch.size=8", "data.valid=2000", "logging.sample=0")
CONFIGS: dict[str, tuple[str, ...]] = {
    "diamonds": (),
    "adafactor": ("@diamonds", "optimizer.name=adafactor", "optimizer.lr=1e-2"),
    "lamb": ("@diamonds", "optimizer.name=lamb", "optimizer.lr=1e-2", "optimizer.clip_norm=0.5", "optimizer.ema=0.9"),
    "muon": ("@diamonds", "optimizer.name=muon", "optimizer.lr=1e-2"),
    "bf16": ("@diamonds", "precision=bf16", "float32_layers=[layers.0]"),
    "heat_equation": (),
    "moby_dick": ("batch.size=16", "data.valid=5000", "logging.sample=0"),
    "small_gpt": (*TEXT, "model={name: gpt, context: 40, layers: 1, width: 48, heads: 3, positions: rotary, dropout: 0.1}"),
    "small_lstm": (*TEXT, "model={name: lstm, width: 40, layers: 2, dropout: 0.1}"),
    "fashion_mnist_mlp": IMAGES,
    "fashion_mnist_cnn": (*IMAGES, "batch.size=32"),
    "resnet18": (*IMAGES, "batch.size=16", "model.widths=[8,8,8,8]"),
}  # fmt: skip
"""For each row the overrides that shorten it; @NAME is another file than the row's own."""


@dataclass(frozen=True)
class Setting:
    """How to run: in which environment, with which tile of the product, on how many ranks, with how many threads."""

    kernels: str = "numba"
    environment: dict[str, str] = field(default_factory=dict)
    tile: str = "host"
    ranks: int = 1
    threads: int = 1


def settings() -> dict[str, Setting]:
    x86 = platform.machine() in ("x86_64", "AMD64")
    old_numpy = {"NPY_DISABLE_CPU_FEATURES": dispatched()}
    old_blas = {"OPENBLAS_CORETYPE": "Prescott" if x86 else "ARMV8"}
    compiler = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+sse4.2"} if x86 else {}
    return {
        "here": Setting(),
        "old NumPy": Setting(environment=old_numpy),
        "old BLAS": Setting(environment=old_blas),
        "Haswell": Setting(environment=compiler),
        "AVX-512": Setting(tile="avx512"),
        "Arm's tile, 2 threads": Setting(tile="neon", threads=2),
        "2 ranks": Setting(ranks=2),
        "3 ranks": Setting(ranks=3),
        "NumPy kernels": Setting(kernels="numpy"),
        "NumPy kernels, old": Setting(kernels="numpy", environment={**old_numpy, **old_blas}),
    }


def dispatched() -> str:
    """The CPU features for which NumPy has code of its own that this CPU runs."""
    return " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])


def words(row: str, directory: Path) -> list[str]:
    """What follows `allgrad train` for a row: its file and overrides; files that it needs are written to the directory."""
    overrides = list(CONFIGS[row])
    name = overrides.pop(0)[1:] if overrides and overrides[0].startswith("@") else row
    if "data.name=idx" in overrides:
        for part, count in (("train", 512), ("valid", 128)):
            rng = np.random.default_rng(count)
            arrays = {"images": rng.integers(0, 256, (count, 28, 28), "u1"), "labels": rng.integers(0, 10, count, "u1")}
            for what, array in arrays.items():
                path = directory / f"{part}-{what}.idx"
                path.write_bytes(
                    bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
                )
                overrides.append(f"data.{part}_{what}={path}")
    return [str(ROOT / f"configs/{name}.yaml"), *overrides, *SHORT]


def run(row: str, setting: Setting, *, timeout: float = 1200) -> dict[str, object]:
    """A short run in a process of its own; its summary."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "--tile",
            setting.tile,
            "--one",
            *words(row, Path(directory)),
        ]
        command += [f"parallel.blas_threads={setting.threads}", f"run.dir={directory}/run"]
        if setting.ranks > 1:
            command = [str(Path(sys.executable).with_name("mpirun")), "-n", str(setting.ranks), *command]
        known = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("OPENBLAS_CORETYPE", "NPY_", "NUMBA_", "ALLGRAD_KERN"))
        }
        environment = {**known, "ALLGRAD_KERNELS": setting.kernels, **setting.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise RuntimeError(f"{row}: exit code {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
        found: dict[str, object] = json.loads(Path(directory, "run", "summary.json").read_text())
        return found


def one(tile: str, arguments: list[str]) -> int:
    """In the child process: `allgrad train` with a given tile."""
    from allgrad import kernels
    from allgrad.cli.main import main as allgrad

    if tile != "host" and kernels.active().name == "numba":
        from allgrad.kernels.matmul.product import Product
        from allgrad.kernels.matmul.tiles import TILES

        kernels.active().matmul = Product(TILES[tile])
    ranks = any(v in os.environ for v in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE"))
    return allgrad(["train", *arguments, *([] if ranks else ["--debug"])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(CONFIGS)}")
    parser.add_argument("--print", nargs=2, metavar=("ROW", "DIRECTORY"))
    options = parser.parse_args()
    if options.print:
        print(*words(options.print[0], Path(options.print[1])), sep="\n", flush=True)
        return 0
    columns, wrong = settings(), 0
    for row in options.rows or CONFIGS:
        try:
            found = {name: run(row, setting) for name, setting in columns.items()}
        except RuntimeError as error:
            wrong += 1
            print(f"{row:20} failed: {error}")
            continue
        digests = {name: str(summary["weights_sha256"])[:8] for name, summary in found.items()}
        numba = {digest for name, digest in digests.items() if columns[name].kernels == "numba"}
        numpy = {digest for name, digest in digests.items() if columns[name].kernels == "numpy"}
        portable = {name: found[name]["portable"] for name in columns if columns[name].kernels == "numba"}
        right = len(numba) == 1 and all(portable.values())
        wrong += not right
        print(f"{row:20} {'one digest' if right else 'WRONG'}; NumPy kernels: {len(numpy)} digests")
        for name, digest in digests.items():
            print(f"    {name:24} {digest}  portable: {found[name]['portable']}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    if "--one" in sys.argv:
        sys.exit(one(sys.argv[sys.argv.index("--tile") + 1], sys.argv[sys.argv.index("--one") + 1 :]))
    sys.exit(main())
