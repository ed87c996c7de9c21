"""A single column of a product, left over beside whole panels: vectors run along the rows of A.

A panel of one column takes two thirds of the time of a whole panel, because the vectors of a tile run along its columns. Here a
vector holds one column's sums for several rows, and each step of k multiplies a column of A by one number of B. If the rows of A
are contiguous, squares of A are transposed in registers. The chain of fused multiply-adds of an element is the same as in a tile.
"""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types

from allgrad.kernels.matmul.llvm import INDEX, POINTER, Floats, cgutils, inlined, internal
from allgrad.kernels.matmul.packing import square_of, transposed

if TYPE_CHECKING:
    from collections.abc import Callable

ARGUMENTS = 9
VECTORS_ALONG, VECTORS_ACROSS = 8, 4
"""Vectors of sums at a time, for contiguous columns of A and for contiguous rows: so many that the multipliers are busy."""


@inlined
def column(
    typing_context: Any, rows: Any, steps: Any, a: Any, a_row: Any, a_step: Any, b: Any, c: Any, c_row: Any, bias: Any,
    adds: Any, ITEM: Any, LANES: Any,
) -> Any:  # fmt: skip
    """c = a @ b + bias for a (rows, steps), b (steps,), c (rows,) at these addresses and strides, where b is contiguous.

    a_row or a_step is 1. A bias is the address of one number, or 0. If it `adds`, each sum starts from what c holds.
    """
    floats = square_of(Floats(ITEM.literal_value, LANES.literal_value))

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        rows, steps, a, a_row, a_step, *others = values[: ARGUMENTS + 1]
        with builder.if_else(builder.icmp_signed("==", a_step, INDEX(1))) as branches:
            for branch, along_rows in zip(branches, (True, False), strict=True):
                with branch:
                    name = f"allgrad_column_of_{'rows' if along_rows else 'columns'}_{floats.suffix}"
                    write = _column_function(floats, along_rows=along_rows)
                    function = internal(builder.module, name, ARGUMENTS, write)
                    builder.call(function, [rows, steps, a, a_row if along_rows else a_step, *others])

    return types.void(*[types.int64] * (ARGUMENTS + 1), ITEM, LANES), code


def _column_function(floats: Floats, *, along_rows: bool) -> Callable[[Any, Any], None]:
    """Writes the kernel for an A with contiguous rows, or with contiguous columns."""
    vectors, together = (VECTORS_ACROSS, floats.lanes) if along_rows else (VECTORS_ALONG, 1)
    height = vectors * floats.lanes

    def write(builder: Any, arguments: Any) -> None:
        rows, steps, a, stride, b, c, c_row, bias, adds = arguments
        a, b, c = (builder.inttoptr(place, POINTER) for place in (a, b, c))
        a_row, a_step = (stride, INDEX(1)) if along_rows else (INDEX(1), stride)
        line = builder.inttoptr(builder.ptrtoint(builder.alloca(floats.vector, vectors), INDEX), POINTER)
        places = [floats.at(builder, line, INDEX(v * floats.lanes)) for v in range(vectors)]
        sums = [builder.alloca(floats.vector) for _ in range(vectors)]  # LLVM keeps them in registers
        blocks = builder.sdiv(steps, INDEX(together))
        groups = builder.sdiv(builder.add(rows, INDEX(height - 1)), INDEX(height))
        with cgutils.for_range(builder, groups) as group:
            first = builder.mul(group.index, INDEX(height))
            left = builder.sub(rows, first)
            here = builder.select(builder.icmp_signed("<", left, INDEX(height)), left, INDEX(height))
            top = floats.at(builder, a, builder.mul(first, a_row))
            there = floats.at(builder, c, builder.mul(first, c_row))
            for place in places:
                floats.store(builder, ir.Constant(floats.vector, None), place)
            with builder.if_then(builder.icmp_signed("!=", adds, INDEX(0))), cgutils.for_range(builder, here) as i:
                value = builder.load(floats.at(builder, there, builder.mul(i.index, c_row)), typ=floats.scalar)
                builder.store(value, floats.at(builder, line, i.index))
            for total, place in zip(sums, places, strict=True):
                builder.store(floats.load(builder, place), total)
            read = (_squares if along_rows else _vectors)(builder, floats, top, stride, here, vectors)
            with cgutils.for_range(builder, blocks) as block:
                _add_block(builder, floats, b, builder.mul(block.index, INDEX(together)), together, sums, read)
            for total, place in zip(sums, places, strict=True):
                floats.store(builder, builder.load(total, typ=floats.vector), place)
            done = builder.mul(blocks, INDEX(together))
            with cgutils.for_range(builder, here) as i:
                row, place = floats.at(builder, top, builder.mul(i.index, a_row)), floats.at(builder, line, i.index)
                _add_rest(builder, floats, done, steps, row, a_step, b, place)
                value = _with_bias(builder, floats, builder.load(place, typ=floats.scalar), bias, line)
                builder.store(value, floats.at(builder, there, builder.mul(i.index, c_row)))

    return write


def _add_block(
    builder: Any, floats: Floats, b: Any, k: Any, together: int, sums: list[Any], read: Callable[[int, Any], Any]
) -> None:  # fmt: skip
    """The steps of k from `k` on, as many as are read `together`, for all vectors of sums."""
    numbers = [floats.at(builder, b, builder.add(k, INDEX(n))) for n in range(together)]
    factors = [floats.splat(builder, builder.load(number, typ=floats.scalar)) for number in numbers]
    for v, total in enumerate(sums):
        value = builder.load(total, typ=floats.vector)
        for factor, entries in zip(factors, read(v, k), strict=True):
            value = floats.fma(builder, factor, entries, value)
        builder.store(value, total)


def _add_rest(
    builder: Any, floats: Floats, start: Any, stop: Any, row: Any, a_step: Any, b: Any, place: Any
) -> None:  # fmt: skip
    """The last steps of k for one row, whose sum is at `place`."""
    with cgutils.for_range_slice(builder, start, stop, INDEX(1)) as (k, _):
        factors = floats.at(builder, row, builder.mul(k, a_step)), floats.at(builder, b, k)
        x, y, z = (builder.load(p, typ=floats.scalar) for p in (*factors, place))
        builder.store(builder.fma(x, y, z), place)


def _with_bias(builder: Any, floats: Floats, value: Any, bias: Any, readable: Any) -> Any:
    """The value plus the number at `bias`, unless that is 0. `readable` is any address that may be read."""
    biased = builder.icmp_signed("!=", bias, INDEX(0))
    shift = builder.select(biased, builder.inttoptr(bias, POINTER), readable)
    return builder.select(biased, builder.fadd(value, builder.load(shift, typ=floats.scalar)), value)


def _vectors(builder: Any, floats: Floats, top: Any, stride: Any, here: Any, vectors: int) -> Callable[[int, Any], Any]:
    """Reads an A with contiguous columns: the entries of vector v at step k."""
    masks = [floats.first_lanes(builder, builder.sub(here, INDEX(v * floats.lanes))) for v in range(vectors)]

    def read(v: int, k: Any) -> list[Any]:
        place = floats.at(builder, top, builder.add(builder.mul(k, stride), INDEX(v * floats.lanes)))
        return [floats.load(builder, place, masks[v])]

    return read


def _squares(builder: Any, floats: Floats, top: Any, stride: Any, here: Any, vectors: int) -> Callable[[int, Any], Any]:
    """Reads an A with contiguous rows: the entries of vector v at step k and the following steps. The last row fills up."""
    last = builder.sub(here, INDEX(1))
    lines = []
    for i in range(vectors * floats.lanes):
        number = builder.select(builder.icmp_signed("<", INDEX(i), last), INDEX(i), last)
        lines.append(floats.at(builder, top, builder.mul(number, stride)))

    def read(v: int, k: Any) -> list[Any]:
        rows = lines[v * floats.lanes : (v + 1) * floats.lanes]
        return transposed(builder, [floats.load(builder, floats.at(builder, row, k)) for row in rows])

    return read
