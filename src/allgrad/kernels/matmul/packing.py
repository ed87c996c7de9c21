"""Packing: operands of a product, laid out as the micro-kernel reads them."""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types

from allgrad.kernels.matmul.llvm import INDEX, POINTER, Floats, cgutils, inlined, internal, prefetch

if TYPE_CHECKING:
    from collections.abc import Callable
AHEAD = 8
"""Rows by which memory is asked for before it is read: far enough for pieces of rows that come from the last cache."""


@inlined
def pack(
    typing_context: Any, depth: Any, source: Any, step: Any, column: Any, parts: Any, width: Any, rest: Any, target: Any,
    target_step: Any, pitch: Any, filled: Any, WIDTH: Any, ITEM: Any, LANES: Any,
) -> Any:  # fmt: skip
    """Cuts a matrix of `depth` rows into parts by its columns, and writes each part's rows below each other.

    There are `parts` parts of `width` columns, and after them one of `rest` columns, if that is not 0. The matrix has its entry
    [k, j] at source + step k + column j, a part at target + target_step k + j, and the next part is `pitch` further.

    A part's rows are filled up with zeros to `filled` entries. Where columns are contiguous, `width` and `rest` are at most
    WIDTH, and a row is written in whole vectors, as many as WIDTH takes: up to a vector of what follows it is overwritten before
    it is written itself.
    """
    floats, vectors = Floats(ITEM.literal_value, LANES.literal_value), -(-WIDTH.literal_value // LANES.literal_value)
    signature = types.void(*[types.int64] * 11, WIDTH, ITEM, LANES)

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        depth, source, step, column, parts, width, rest, target, target_step, pitch = values[:10]
        rows = f"allgrad_pack_rows_{vectors}_{floats.suffix}", 9, _rows_function(floats, vectors)
        turned = f"allgrad_pack_turned_{floats.suffix}", 11, _turned_function(floats)
        with builder.if_else(builder.icmp_signed("==", column, INDEX(1))) as (contiguous, strided):
            with contiguous:
                given = depth, source, step, parts, width, rest, target, target_step, pitch
                builder.call(internal(builder.module, *rows), given)
            with strided:
                builder.call(internal(builder.module, *turned), values[:11])

    return signature, code


def _rows_function(floats: Floats, vectors: int) -> Callable[[Any, Any], None]:
    """Contiguous columns: rows are read from left to right, which is what memory likes."""

    def write(builder: Any, arguments: Any) -> None:
        depth, source, step, parts, width, rest, target, target_step, pitch = arguments
        source, target = (builder.inttoptr(p, POINTER) for p in (source, target))
        offsets = [INDEX(j * floats.lanes) for j in range(vectors)]
        inside, last = (
            [floats.first_lanes(builder, builder.sub(length, offset)) for offset in offsets] for length in (width, rest)
        )

        ahead = builder.mul(step, INDEX(AHEAD))

        def move(start: Any, there: Any, part: Any, masks: Any) -> None:
            start = floats.at(builder, start, builder.mul(part, width))
            there = floats.at(builder, there, builder.mul(part, pitch))
            prefetch(builder, floats.at(builder, start, ahead), write=False)
            for offset, mask in zip(offsets, masks, strict=True):
                value = floats.load(builder, floats.at(builder, start, offset), mask)
                floats.store(builder, value, floats.at(builder, there, offset))

        with cgutils.for_range(builder, depth) as row:
            start = floats.at(builder, source, builder.mul(row.index, step))
            there = floats.at(builder, target, builder.mul(row.index, target_step))
            with cgutils.for_range(builder, parts) as part:
                move(start, there, part.index, inside)
            with builder.if_then(builder.icmp_signed(">", rest, INDEX(0))):
                move(start, there, parts, last)

    return write


def _turned_function(floats: Floats) -> Callable[[Any, Any], None]:
    """Columns that are apart, one part after the other."""

    def write(builder: Any, arguments: Any) -> None:
        depth, source, step, column, parts, width, rest, target, target_step, pitch, filled = arguments
        source, target = (builder.inttoptr(p, POINTER) for p in (source, target))
        count = builder.add(parts, builder.zext(builder.icmp_signed(">", rest, INDEX(0)), INDEX))
        with cgutils.for_range(builder, count) as part:
            start = floats.at(builder, source, builder.mul(part.index, builder.mul(width, column)))
            there = floats.at(builder, target, builder.mul(part.index, pitch))
            columns = builder.select(builder.icmp_signed("<", part.index, parts), width, rest)
            _copy_turned(builder, floats, depth, columns, start, step, column, there, target_step, filled)

    return write


def _copy_turned(
    builder: Any,
    floats: Floats,
    depth: Any,
    width: Any,
    source: Any,
    step: Any,
    column: Any,
    target: Any,
    target_step: Any,
    filled: Any,
) -> None:
    """Rows whose numbers are apart. Where k is contiguous, squares are transposed in registers, otherwise numbers go one by one.

    The last squares overlap those before them. If a row is shorter than a square, and may be filled up, what follows the row is
    overwritten before it is written itself.
    """
    square = square_of(floats)
    side, none = INDEX(square.lanes), INDEX(0)

    def covered(length: Any) -> Any:
        """The number of squares that cover a length."""
        return builder.sdiv(builder.add(length, INDEX(square.lanes - 1)), side)

    def smaller(x: Any, y: Any) -> Any:
        return builder.select(builder.icmp_signed("<", x, y), x, y)

    wide = builder.or_(builder.icmp_signed(">=", width, side), builder.icmp_signed(">", filled, none))
    contiguous = builder.and_(builder.icmp_signed("==", step, INDEX(1)), builder.icmp_signed(">=", depth, side))
    squares = builder.and_(builder.and_(wide, contiguous), builder.icmp_signed(">", width, none))
    last = builder.sub(width, INDEX(1))
    offsets = [builder.mul(column, smaller(INDEX(n), last)) for n in range(square.lanes)]
    last_down, beyond = builder.sub(depth, side), builder.sub(width, side)
    last_across = builder.select(builder.icmp_signed(">", beyond, none), beyond, none)
    with (
        cgutils.for_range(builder, builder.select(squares, covered(width), none)) as across,
        cgutils.for_range(builder, covered(depth)) as down,
    ):
        k = smaller(builder.mul(down.index, side), last_down)
        j = smaller(builder.mul(across.index, side), last_across)
        start = square.at(builder, source, builder.add(builder.mul(j, column), k))
        there = square.at(builder, target, builder.add(builder.mul(k, target_step), j))
        lines = [square.load(builder, square.at(builder, start, offset)) for offset in offsets]
        for n, line in enumerate(transposed(builder, lines)):
            square.store(builder, line, square.at(builder, there, builder.mul(target_step, INDEX(n))))
    done = builder.select(squares, width, none)
    complete = builder.and_(squares, builder.icmp_signed(">=", width, filled))
    with cgutils.for_range(builder, builder.select(complete, none, depth)) as row:
        start = floats.at(builder, source, builder.mul(row.index, step))
        there = floats.at(builder, target, builder.mul(row.index, target_step))
        with cgutils.for_range_slice(builder, done, width, INDEX(1)) as (j, _):
            value = builder.load(floats.at(builder, start, builder.mul(j, column)), typ=floats.scalar)
            builder.store(value, floats.at(builder, there, j))
        with cgutils.for_range_slice(builder, width, filled, INDEX(1)) as (j, _):
            builder.store(floats.scalar(0), floats.at(builder, there, j))


def square_of(floats: Floats) -> Floats:
    """Vectors that are as long as there are of them in a square that is transposed in registers."""
    return Floats(floats.item, min(floats.lanes, 32 // floats.item))


def transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """The transpose of a square of vectors: for each power of two, blocks of that size change places across the diagonal."""
    side = len(lines)
    half = side // 2
    while half:
        low = [lane if not lane & half else side + lane - half for lane in range(side)]
        high = [lane + half if not lane & half else side + lane for lane in range(side)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), side), m) for m in (low, high)]
        for n in range(side):
            if not n & half:
                pair = lines[n], lines[n + half]
                lines[n], lines[n + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        half //= 2
    return lines
