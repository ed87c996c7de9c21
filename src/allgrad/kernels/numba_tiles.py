"""The transforms of Winograd's convolution, compiled: along one axis of a tile, then along the other.

What is between the two axes stays in the first-level cache, and a tile inside of the image is read and written in place. Channels
are vectors, so an entry is one chain of fused multiply-adds whatever the CPU.
"""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba.core import cgutils as untyped_cgutils

from allgrad.kernels.blocks import contiguous, scratch
from allgrad.kernels.jit import compiled, per_dtype, specialised
from allgrad.kernels.matmul.llvm import INDEX, POINTER, Floats, address, inlined, routine
from allgrad.kernels.matmul.product import matmul

if TYPE_CHECKING:
    import numpy as np

    from allgrad.kernels.blocks import Array, Pair

cgutils: Any = untyped_cgutils  # numba has no types for it
ITEM = LANES = 0
"""Bytes of a number and numbers of a vector; `per_dtype` puts them in."""


@inlined
def transform_line(
    typing_context: Any, channels: Any, m: Any, source: Any, step: Any, target: Any, target_step: Any, adds: Any,
    P: Any, Q: Any, ITEM: Any, LANES: Any,
) -> Any:  # fmt: skip
    """target[i] = the sum over k < Q of m[i, k] source[k] for i < P, in each channel; added to target[i] if `adds`.

    The pixel source[k] is at source + step k, and target[i] at target + target_step i, counted in numbers.
    """
    floats, p, q = Floats(ITEM.literal_value, LANES.literal_value), P.literal_value, Q.literal_value

    def write(builder: Any, arguments: Any) -> None:
        channels, m, source, step, target, target_step, adds = arguments
        m, source, target = (builder.inttoptr(place, POINTER) for place in (m, source, target))
        entries = [
            [builder.load(floats.at(builder, m, INDEX(i * q + k)), typ=floats.scalar) for k in range(q)]
            for i in range(p)
        ]
        whole = builder.sdiv(channels, INDEX(floats.lanes))
        rest = builder.sub(channels, builder.mul(whole, INDEX(floats.lanes)))

        def at_channel(start: Any, mask: Any) -> None:
            pixels = [
                floats.load(builder, floats.at(builder, source, builder.add(start, builder.mul(step, INDEX(k)))), mask)
                for k in range(q)
            ]
            for i in range(p):
                place = floats.at(builder, target, builder.add(start, builder.mul(target_step, INDEX(i))))
                total = builder.fmul(floats.splat(builder, entries[i][0]), pixels[0])
                for k in range(1, q):
                    total = floats.fma(builder, floats.splat(builder, entries[i][k]), pixels[k], total)
                with builder.if_else(builder.icmp_signed("!=", adds, INDEX(0))) as (added, written):
                    with added:
                        floats.store(builder, builder.fadd(floats.load(builder, place, mask), total), place, mask)
                    with written:
                        floats.store(builder, total, place, mask)

        with cgutils.for_range(builder, whole) as vector:
            at_channel(builder.mul(vector.index, INDEX(floats.lanes)), None)
        with builder.if_then(builder.icmp_signed(">", rest, INDEX(0))):
            at_channel(builder.mul(whole, INDEX(floats.lanes)), floats.first_lanes(builder, rest))

    return routine(7, f"allgrad_transform_{p}_{q}_{floats.suffix}", write, (P, Q, ITEM, LANES))


def along(
    p: Any, q: Any, channels: Any, m: Any, source: Any, step: Any, target: Any, target_step: Any, adds: Any
) -> None:
    """`transform_line` for the three shapes of matrices that there are."""
    if p == 6 and q == 6:
        transform_line(channels, m, source, step, target, target_step, adds, 6, 6, ITEM, LANES)
    elif p == 4 and q == 6:
        transform_line(channels, m, source, step, target, target_step, adds, 4, 6, ITEM, LANES)
    elif p == 6 and q == 4:
        transform_line(channels, m, source, step, target, target_step, adds, 6, 4, ITEM, LANES)


def _for_tile(dtype: np.dtype[Any]) -> tuple[str, dict[str, Any]]:
    constants = matmul.tile.constants(dtype)
    suffix = f"{dtype.name}_{matmul.tile.name}"
    return f"_{matmul.tile.name}", {**constants, "along": compiled(specialised(along, suffix, constants))}


@per_dtype("r4 r2 n n n n n w3 w2 w2", variant=_for_tile)
def transform(
    x: Any, matrix: Any, top: Any, left: Any, down: Any, across: Any, step: Any, out: Any, tile: Any, half: Any
) -> None:
    (p, q), (count, height, width, channels) = matrix.shape, x.shape
    m, pixel, plane, zero = address(matrix), channels * ITEM, out.shape[1] * channels, x.dtype.type(0)
    for number in range(count * down * across):
        image, place = number // (down * across), number % (down * across)
        above, before = place // across * step - top, place % across * step - left
        source, row = address(x) + ((image * height + above) * width + before) * pixel, width
        if above < 0 or before < 0 or above + q > height or before + q > width:
            source, row = address(tile), q
            for k in range(q):
                for j in range(q):
                    r, s = above + k, before + j
                    inside = 0 <= r < height and 0 <= s < width
                    for c in range(channels):
                        tile[k * q + j, c] = x[image, r, s, c] if inside else zero
        for j in range(q):
            along(p, q, channels, m, source + j * pixel, row * channels, address(half) + j * pixel, q * channels, 0)
        for k in range(p):
            target = address(out) + (k * p * plane + number * channels) * ITEM
            along(p, q, channels, m, address(half) + k * q * pixel, channels, target, plane, 0)


@per_dtype("r3 r2 n n n n n w4 w2 w2", variant=_for_tile)
def assemble(
    z: Any, matrix: Any, top: Any, left: Any, down: Any, across: Any, step: Any, out: Any, half: Any, line: Any
) -> None:
    (p, q), (count, height, width, channels) = matrix.shape, out.shape
    m, pixel, plane, adds = address(matrix), channels * ITEM, z.shape[1] * channels, 1 if p > step else 0
    if adds:
        out[:] = 0
    for number in range(count * down * across):
        image, place = number // (down * across), number % (down * across)
        above, before = place // across * step - top, place % across * step - left
        for j in range(q):
            source = address(z) + (j * plane + number * channels) * ITEM
            along(p, q, channels, m, source, q * plane, address(half) + j * pixel, q * channels, 0)
        for k in range(p):
            r = above + k
            if 0 <= r < height:
                source = address(half) + k * q * pixel
                if before >= 0 and before + p <= width:
                    target = address(out) + ((image * height + r) * width + before) * pixel
                    along(p, q, channels, m, source, channels, target, channels, adds)
                else:
                    along(p, q, channels, m, source, channels, address(line), channels, 0)
                    for j in range(max(0, -before), min(p, width - before)):
                        there, here = out[image, r, before + j], line[j]
                        for c in range(channels):
                            there[c] = there[c] + here[c] if adds else here[c]


def transform_tiles(x: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, out: Array) -> None:
    p, q = matrix.shape
    tile, half = (scratch(x.dtype, i, (rows * q, out.shape[-1])) for i, rows in ((0, q), (1, p)))
    transform[x.dtype](contiguous(x), matrix, *corner, *tiles, step, out, tile, half)


def assemble_tiles(z: Array, matrix: Array, corner: Pair, tiles: Pair, step: int, out: Array) -> None:
    p, q = matrix.shape
    half, line = scratch(z.dtype, 0, (p * q, out.shape[-1])), scratch(z.dtype, 1, (p, out.shape[-1]))
    assemble[z.dtype](z, matrix, *corner, *tiles, step, out, half, line)
