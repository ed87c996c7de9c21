"""The transforms of Winograd's convolution, with loops in NumPy: all pixels of all tiles are gathered, and BLAS multiplies them
by the Kronecker square of the matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from allgrad.kernels.blocks import Array, Pair, scratch


class Tiles:
    tiles: Any

    def transform_tiles(self, x: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, *, out: Array) -> Array:
        """m t m' for each tile t of images x (n, height, width, channels), channel by channel, with m = `matrix` (p, q).

        Tile (i, j) of (down, across) = `tiles` has q x q pixels, the first of them (step i - top, step j - left) with
        (top, left) = `corner`; pixels outside of the image are 0. `out` is (p p, n down across, channels), C-contiguous. q is 4
        or 6.
        """
        self.tiles.transform_tiles(x, matrix, corner, tiles, step, out)
        return out

    def assemble_tiles(self, z: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, *, out: Array) -> Array:
        """The way back: images `out` (n, height, width, channels) in which m t m', p x p pixels, is added at the place of each
        tile t of z (q q, n down across, channels). What is outside of the image is dropped. Needs p <= 2 step; q is 4 or 6.
        """
        self.tiles.assemble_tiles(z, matrix, corner, tiles, step, out)
        return out


_squares: dict[tuple[str, tuple[int, ...], bytes], Array] = {}


def _square(matrix: Array) -> Array:
    key = (matrix.dtype.char, matrix.shape, matrix.tobytes())
    if key not in _squares:
        _squares[key] = np.kron(matrix, matrix)
    return _squares[key]


def _frame(images: Array, corner: Pair, tiles: Pair, step: int, side: int) -> tuple[Array, Array, Array]:
    """Scratch memory that holds all tiles; the part of it that is the images; and its tiles (side, side, n, down, across, C)."""
    (n, height, width, channels), (top, left) = images.shape, corner
    high, wide = (
        max(step * (t - 1) + side, start + size) for t, start, size in zip(tiles, corner, (height, width), strict=True)
    )
    frame = scratch(images.dtype, 0, (n, high, wide, channels))
    sample, row, column, channel = frame.strides
    shape, strides = (side, side, n, *tiles, channels), (row, column, sample, step * row, step * column, channel)
    return frame, frame[:, top : top + height, left : left + width], as_strided(frame, shape, strides)


def transform_tiles(x: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, out: Array) -> None:
    frame, inside, seen = _frame(x, corner, tiles, step, matrix.shape[1])
    frame[...] = 0
    inside[...] = x
    pixels = scratch(x.dtype, 1, seen.shape)
    np.copyto(pixels, seen)
    np.matmul(_square(matrix), pixels.reshape(matrix.shape[1] ** 2, -1), out=out.reshape(len(out), -1))


def assemble_tiles(z: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, out: Array) -> None:
    side = len(matrix)
    frame, inside, seen = _frame(out, corner, tiles, step, side)
    pixels = scratch(z.dtype, 1, seen.shape)
    np.matmul(_square(matrix), z.reshape(len(z), -1), out=pixels.reshape(side * side, -1))
    frame[...] = 0
    # Pixels of the same place in different squares of `step` pixels do not overlap.
    spans = [slice(start, min(start + step, side)) for start in range(0, side, step)]
    for rows in spans:
        for columns in spans:
            np.add(seen[rows, columns], pixels[rows, columns], out=seen[rows, columns])
    out[...] = inside
