"""3x3 convolution with stride 1 and a quarter of the multiplications: Winograd's F(4x4, 3x3).

Along one axis, four outputs of a three-tap filter need six multiplications in place of twelve:

    y = A' [ (G w) * (B' d) ],        d six inputs, w three taps, y four outputs,

where A, B and G come from evaluating polynomials at five points and at infinity (Toom and Cook; Winograd 1980; for
convolutional networks Lavin & Gray, CVPR 2016). In two dimensions the matrices are Kronecker squares: a tile of
6x6 pixels becomes 36 numbers, 36 products of matrices (tiles, C) (C, O) do the work of 144, and 16 outputs come back.
The kernels do the transforms.

The gradients are the transposes of the same steps: with V = B' d (input) and Z = A g (cotangent), both of 36 numbers a tile,

    dU = sum over tiles of V' Z,  dw = G' dU;      dV = Z U',  dd = B dV, added where tiles overlap.

Rounding depends on the points. The customary 0, 1, -1, 2, -2 lose five times as much as a direct sum; 0, and plus or minus
3/4 and 3/2, with rows of B and G scaled to like size by powers of two, lose 2.3 times as much (root mean square, 32
channels; 4.5 times with 256): 7e-7 for outputs of size 1 in float32. (On such points: Barabasz et al., ACM TOMS 46, 2020.)
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from allgrad.kernels import active
from allgrad.kernels.blocks import spans
from allgrad.nn.convolution.algorithm import Algorithm, Array

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.nn.convolution.geometry import Geometry, Pair

POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))
OUT, TAPS = 4, 3
SIDE = OUT + TAPS - 1
PLACES = SIDE * SIDE
TILES = 128
"""The smallest number of tiles in one product, unless the batch has fewer. Images are grouped accordingly."""
KERNEL, LEAST = 1 << 20, 64
"""If one group contains all samples, the transform of the kernel and its gradient (each four times as large as the kernel) are
computed in blocks of about this many entries, and at least this many channels, which stay in cache. Otherwise they are needed
again and are kept as a whole."""


class Transforms(NamedTuple):
    """B' (6, 6) and B, A' (4, 6) and A, and the two-dimensional matrix of the kernel, the Kronecker square of G, (36, 9)."""

    input: Array
    input_back: Array
    output: Array
    output_back: Array
    kernel: Array


@cache
def transforms(dtype: np.dtype[np.floating]) -> Transforms:
    a, g, b = _one_dimensional()
    return Transforms(*(np.ascontiguousarray(m, dtype) for m in (b, b.T, a, a.T, np.kron(g, g))))


def _one_dimensional() -> tuple[Array, Array, Array]:
    """A' (4, 6), G (6, 3) and B' (6, 6), by exact arithmetic."""
    a = [[p**i for p in POINTS] + [Fraction(i == OUT - 1)] for i in range(OUT)]
    g = [[p**i / math.prod(p - q for q in POINTS if q != p) for i in range(TAPS)] for p in POINTS]
    g.append([Fraction(i == TAPS - 1) for i in range(TAPS)])
    b = [_polynomial([q for q in POINTS if q != p]) for p in (*POINTS, None)]
    A, G, B = (np.array(m, float) for m in (a, g, b))
    scale = np.exp2(np.round(np.log2(np.linalg.norm(G, axis=1) / np.linalg.norm(B, axis=1)) / 2))
    return A, G / scale[:, None], B * scale[:, None]


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Six coefficients, lowest power first, of the product of (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        low, high = [-root * c for c in coefficients] + [Fraction(0)], [Fraction(0), *coefficients]
        coefficients = [x + y for x, y in zip(low, high, strict=True)]
    return coefficients + [Fraction(0)] * (SIDE - len(coefficients))


class Winograd(Algorithm):
    """See the top of this file."""

    def __init__(self, weight: Array, geometry: Geometry, image: Pair, samples: int) -> None:
        super().__init__(weight, geometry, image, samples)
        self.tiles = tile_counts(self.output)
        self.samples = group_size(self.output, samples)
        self.outer = weight.shape[3]
        self.transforms = transforms(self.dtype)
        (top, _), (left, _) = geometry.padding
        self.corner = (top, left)
        count = self.samples * self._a_sample
        self.transformed = np.empty((PLACES, count, self.channels), self.dtype)
        self.products = np.empty((PLACES, count, self.outer), self.dtype)
        self.pair: tuple[Array, Array] | None = None
        self.kernel: Array | None = None
        self.one_group = self.samples == samples

    def forward(self, x: Array, y: Array) -> None:
        products, transformed = self._part(self.products, len(x)), self._transform(x)
        for outer in self._blocks(self.outer, self.channels):
            active().matmul(transformed, self._kernel(outer=outer), out=products[:, :, outer])
        active().assemble_tiles(products, self.transforms.output, (0, 0), self.tiles, OUT, out=y)

    def backward(self, x: Array | None, g: Array, dx: Array | None) -> None:
        spread = self._part(self.products, len(g))
        active().transform_tiles(g, self.transforms.output_back, (0, 0), self.tiles, OUT, out=spread)
        if dx is not None:
            tiles = self._part(self.transformed, len(g))
            for inner in self._blocks(self.channels, self.outer):
                active().matmul(spread, self._kernel(inner=inner).transpose(0, 2, 1), out=tiles[:, :, inner])
            active().assemble_tiles(tiles, self.transforms.input_back, self.corner, self.tiles, OUT, out=dx)
        if x is not None and self.one_group:
            self.pair = self._transform(x), spread
        elif x is not None:
            self._collect(self._transform(x).transpose(0, 2, 1), spread)

    def weight_gradient(self, into: Array | None) -> Array:
        dw = np.empty(self.weight.shape, self.dtype) if into is None else into
        taps = dw.reshape(TAPS * TAPS, self.channels * self.outer)
        for inner in self._blocks(self.channels, self.outer):
            block = taps[:, inner.start * self.outer : inner.stop * self.outer]
            active().matmul(self.transforms.kernel.T, self._gradient(inner).reshape(PLACES, -1), out=block)
        return dw

    def _gradient(self, inner: slice) -> Array:
        """dU, or a block of it."""
        if self.pair is not None:
            return np.asarray(active().matmul(self.pair[0][:, :, inner].transpose(0, 2, 1), self.pair[1]))
        assert self.gradient is not None
        return self.gradient

    def _blocks(self, length: int, other: int) -> Iterable[slice]:
        """The blocks of one axis in which the transform of the kernel is used; the other axis is whole."""
        return spans(length, max(LEAST, KERNEL // (PLACES * other)) if self.one_group else length)

    def _kernel(self, inner: slice = slice(None), outer: slice = slice(None)) -> Array:
        """U: a block of the kernel's transform, which is four times the kernel in all: (36, C, O)."""
        if self.kernel is not None:
            return self.kernel
        block = self.weight[:, :, inner, outer]
        transformed: Array = active().matmul(self.transforms.kernel, block.reshape(TAPS * TAPS, -1))
        transformed = transformed.reshape(PLACES, *block.shape[2:])
        if not self.one_group:
            self.kernel = transformed
        return transformed

    @property
    def _a_sample(self) -> int:
        return self.tiles[0] * self.tiles[1]

    def _part(self, memory: Array, samples: int) -> Array:
        """The front of scratch memory (36, tiles, channels), contiguous, for a group of fewer samples."""
        if samples == self.samples:
            return memory
        shape = (PLACES, samples * self._a_sample, memory.shape[2])
        return memory.reshape(-1)[: shape[0] * shape[1] * shape[2]].reshape(shape)

    def _transform(self, x: Array) -> Array:
        """V: the input's tiles as (36, tiles, C)."""
        out = self._part(self.transformed, len(x))
        return active().transform_tiles(x, self.transforms.input, self.corner, self.tiles, OUT, out=out)


def group_size(output: Pair, samples: int) -> int:
    """The number of samples in a group, so that their tiles fill a product."""
    return min(samples, -(-TILES // math.prod(tile_counts(output))))


def tile_counts(output: Pair) -> Pair:
    """The number of tiles along both axes; the last ones may extend beyond the result."""
    return -(-output[0] // OUT), -(-output[1] // OUT)
