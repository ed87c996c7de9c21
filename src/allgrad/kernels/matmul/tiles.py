"""Which tile of the result the micro-kernel keeps in registers, for each kind of CPU.

The choice decides speed and never bits: every element is one chain of fused multiply-adds over k in any tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Tile(NamedTuple):
    """The registers of one kind of CPU.

    `register_bytes` is the size of a vector register, `rows` the most rows of a tile, and `sums` how many vectors of the
    result fit into registers beside the operands. A tile of `h` rows is `sums // h` vectors wide, at most `widest`.
    """

    name: str
    register_bytes: int
    rows: int
    sums: int
    widest: int

    def lanes(self, dtype: np.dtype[Any]) -> int:
        """Numbers in one vector."""
        return self.register_bytes // dtype.itemsize

    def panel(self, dtype: np.dtype[Any]) -> int:
        """Columns that the tallest tile takes at a time."""
        return self.sums // self.rows * self.lanes(dtype)

    def constants(self, dtype: np.dtype[Any]) -> dict[str, int]:
        """The constants that the compiled loops of `blocking.py` are specialised for."""
        return {
            "ITEM": dtype.itemsize,
            "LANES": self.lanes(dtype),
            "ROWS": self.rows,
            "SUMS": self.sums,
            "WIDEST": self.widest,
            "PANEL": self.panel(dtype),
        }


AVX512 = Tile("avx512", register_bytes=64, rows=14, sums=28, widest=6)
AVX2 = Tile("avx2", register_bytes=32, rows=6, sums=12, widest=6)
NEON = Tile("neon", register_bytes=16, rows=8, sums=24, widest=6)
TILES = {tile.name: tile for tile in (AVX512, AVX2, NEON)}


def choose(features: str, machine: str) -> Tile | None:
    """The tile for a CPU; None if it has no fused multiply-add.

    Args:
        features: LLVM's list, such as "+avx2,+fma,-avx512f".
        machine: `platform.machine()`.

    >>> choose("+avx2,+fma,-avx512f", "x86_64").name
    'avx2'
    >>> choose("-avx2,-fma", "x86_64") is None
    True
    """
    if machine.lower() in ("aarch64", "arm64"):
        return NEON
    found = features.split(",")
    if "+avx512f" in found:
        return AVX512
    return AVX2 if "+fma" in found and "+avx2" in found else None
