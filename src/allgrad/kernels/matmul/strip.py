"""The micro-kernel: tiles of the result whose sums stay in registers from the first product to the last.

A tile runs through one chain of fused multiply-adds for each of its *segments*, stretches of k. A product has one segment.
The gradient of a weight, summed for each of several virtual workers, has one for each worker: its chain starts from zero, and
ends with as many additions of what earlier segments left on a stack as the tree over the workers has at this place
(`numba_gradients.py`). The stack holds whole tiles, so it stays in a first-level cache.
"""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types

from allgrad.kernels.matmul.llvm import INDEX, POINTER, Floats, inlined, internal, prefetch

if TYPE_CHECKING:
    from collections.abc import Callable

ADD_TO_RESULT, ADD_BIAS = 1, 2
"""Flags of `strip`: the sums start from what C holds; a bias is added at the end."""
BASES = 6
"""Rows of A that have a register of their own with their address, so many as x86-64 can spare."""
AHEAD = 32
"""Steps of k by which A is asked for before it is read: longer than the second-level cache takes to answer."""
FIELDS = 2
"""Of a segment: its steps of k, which follow those of the segment before, and its merges."""
ARGUMENTS = 15
"""Of a strip, besides its height and its vectors."""


def _strip_function(floats: Floats, height: int, vectors: int) -> Callable[[Any, Any], None]:
    """Writes the micro-kernel for one size of tile; see `strip`."""
    cells = [(i, j) for i in range(height) for j in range(vectors)]
    width = vectors * floats.lanes

    def write(builder: Any, arguments: Any) -> None:
        a_start, a_row, a_step, a_tile, b, b_step, c_start, c_row, lanes, flags, bias, tiles, segments, count, stack = (
            arguments
        )
        bias, table = (builder.inttoptr(p, POINTER) for p in (bias, segments))
        whole = builder.icmp_signed("==", lanes, INDEX(floats.lanes))
        mask = floats.first_lanes(builder, lanes)
        entry = builder.block
        names = "tile start full cut segment loop end merge merged push final biased store done"
        block = {name: builder.append_basic_block(name) for name in names.split()}
        builder.branch(block["tile"])

        builder.position_at_end(block["tile"])
        number, a_address, c_address = (builder.phi(INDEX) for _ in range(3))
        a_rows = _bases(builder, floats, builder.inttoptr(a_address, POINTER), a_row, height)
        a_ahead = builder.mul(a_step, INDEX(AHEAD))
        b_start = builder.inttoptr(b, POINTER)
        c = builder.inttoptr(c_address, POINTER)
        c_rows = [floats.at(builder, c, builder.mul(c_row, INDEX(i))) for i in range(height)]
        places = {(i, j): floats.at(builder, c_rows[i], INDEX(j * floats.lanes)) for i, j in cells}
        # A tile that starts from zero needs its lines when its sums are done, one that adds needs them at once.
        adds = _has(builder, flags, ADD_TO_RESULT)
        ahead = builder.select(adds, builder.mul(c_row, INDEX(height)), INDEX(0))
        for row in c_rows:
            for offset in (0, width - 1):
                prefetch(builder, floats.at(builder, row, builder.add(ahead, INDEX(offset))), write=True)
        zeros = dict.fromkeys(cells, ir.Constant(floats.vector, None))
        first = {block["tile"]: zeros}
        builder.cbranch(adds, block["start"], block["segment"])
        builder.position_at_end(block["start"])
        builder.cbranch(whole, block["full"], block["cut"])
        for name in ("full", "cut"):
            builder.position_at_end(block[name])
            masked = mask if name == "cut" else None
            first[block[name]] = {
                (i, j): floats.load(builder, places[i, j], masked if j == vectors - 1 else None) for i, j in cells
            }
            builder.branch(block["segment"])

        builder.position_at_end(block["segment"])
        segment, top, a_first, b_first = (builder.phi(INDEX) for _ in range(4))
        for phi, initial in ((segment, INDEX(0)), (top, stack), (a_first, INDEX(0)), (b_first, INDEX(0))):
            for origin in first:
                phi.add_incoming(initial, origin)
        begun = _phis(builder, floats, {**first, block["push"]: zeros})
        steps, merges = (builder.load(_field(builder, table, segment, field), typ=INDEX) for field in range(FIELDS))
        builder.cbranch(builder.icmp_signed(">", steps, INDEX(0)), block["loop"], block["end"])

        builder.position_at_end(block["loop"])
        k, a_offset, b_offset = (builder.phi(INDEX) for _ in range(3))
        sums = {cell: builder.phi(floats.vector) for cell in cells}
        b_row = floats.at(builder, b_start, b_offset)
        # Each tile of A is new to the first-level cache, while the panel of B was used by the tile before.
        prefetch(builder, floats.at(builder, a_rows[0], builder.add(a_offset, a_ahead)), write=False)
        line = [floats.load(builder, floats.at(builder, b_row, INDEX(j * floats.lanes))) for j in range(vectors)]
        new = {}  # one fused multiply-add per element and step: this is the chain that decides the bits
        for i in range(height):
            factor = floats.splat(builder, builder.load(floats.at(builder, a_rows[i], a_offset), typ=floats.scalar))
            for j in range(vectors):
                new[i, j] = floats.fma(builder, factor, line[j], sums[i, j])
        advances = [(k, INDEX(0), INDEX(1)), (a_offset, a_first, a_step), (b_offset, b_first, b_step)]
        following = [builder.add(value, step) for value, _, step in advances]
        again = builder.cbranch(builder.icmp_signed("<", following[0], steps), block["loop"], block["end"])
        again.set_metadata("llvm.loop", _not_unrolled(builder.module))
        for (phi, initial, _), value in zip(advances, following, strict=True):
            phi.add_incoming(initial, block["segment"])
            phi.add_incoming(value, block["loop"])
        for cell in cells:
            sums[cell].add_incoming(begun[cell], block["segment"])
            sums[cell].add_incoming(new[cell], block["loop"])

        builder.position_at_end(block["end"])
        results = _phis(builder, floats, {block["segment"]: begun, block["loop"]: new})
        reached_of = []
        for initial, value in ((a_first, following[1]), (b_first, following[2])):
            reached_of.append(builder.phi(INDEX))
            reached_of[-1].add_incoming(initial, block["segment"])
            reached_of[-1].add_incoming(value, block["loop"])
        builder.cbranch(builder.icmp_signed(">", merges, INDEX(0)), block["merge"], block["merged"])
        builder.position_at_end(block["merge"])
        left, level = builder.phi(INDEX), builder.phi(INDEX)
        partial = {cell: builder.phi(floats.vector) for cell in cells}
        below = builder.sub(level, INDEX(len(cells) * floats.lanes * floats.item))
        added = {}
        for n, cell in enumerate(cells):
            earlier = floats.load(builder, _entry(builder, floats, below, n))
            added[cell] = builder.fadd(earlier, partial[cell])
            partial[cell].add_incoming(results[cell], block["end"])
            partial[cell].add_incoming(added[cell], block["merge"])
        fewer = builder.sub(left, INDEX(1))
        for phi, initial, value in ((left, merges, fewer), (level, top, below)):
            phi.add_incoming(initial, block["end"])
            phi.add_incoming(value, block["merge"])
        builder.cbranch(builder.icmp_signed(">", fewer, INDEX(0)), block["merge"], block["merged"])
        builder.position_at_end(block["merged"])
        reached = builder.phi(INDEX)
        reached.add_incoming(top, block["end"])
        reached.add_incoming(below, block["merge"])
        results = _phis(builder, floats, {block["end"]: results, block["merge"]: added})
        later = builder.add(segment, INDEX(1))
        builder.cbranch(builder.icmp_signed("<", later, count), block["push"], block["final"])
        builder.position_at_end(block["push"])
        for n, cell in enumerate(cells):
            floats.store(builder, results[cell], _entry(builder, floats, reached, n))
        pushed = builder.add(reached, INDEX(len(cells) * floats.lanes * floats.item))
        for phi, value in zip((segment, top, a_first, b_first), (later, pushed, *reached_of), strict=True):
            phi.add_incoming(value, block["push"])
        builder.branch(block["segment"])

        builder.position_at_end(block["final"])
        builder.cbranch(_has(builder, flags, ADD_BIAS), block["biased"], block["store"])
        builder.position_at_end(block["biased"])
        # The bias has as many entries as the result has columns, so its last vector needs the mask as well.
        shifts = [
            floats.load(builder, floats.at(builder, bias, INDEX(j * floats.lanes)), mask if j == vectors - 1 else None)
            for j in range(vectors)
        ]
        shifted = {(i, j): builder.fadd(results[i, j], shifts[j]) for i, j in cells}
        builder.branch(block["store"])
        builder.position_at_end(block["store"])
        values = _phis(builder, floats, {block["final"]: results, block["biased"]: shifted})
        with builder.if_else(whole) as (all_lanes, some_lanes):
            for branch, masked in ((all_lanes, None), (some_lanes, mask)):
                with branch:
                    for i, j in cells:
                        floats.store(builder, values[i, j], places[i, j], masked if j == vectors - 1 else None)
        stored = builder.block
        below_it = [
            (number, INDEX(0), builder.add(number, INDEX(1))),
            (a_address, a_start, _behind(builder, floats, a_address, a_tile)),
            (c_address, c_start, _behind(builder, floats, c_address, builder.mul(c_row, INDEX(height)))),
        ]
        for phi, initial, value in below_it:
            phi.add_incoming(initial, entry)
            phi.add_incoming(value, stored)
        builder.cbranch(builder.icmp_signed("<", below_it[0][2], tiles), block["tile"], block["done"])
        builder.position_at_end(block["done"])

    return write


def _bases(builder: Any, floats: Floats, a: Any, a_row: Any, height: int) -> list[Any]:
    """Where the rows of a tile begin.

    LLVM is not told that all are a multiple of one number apart. Otherwise it goes from row to row by additions, each of which
    waits for the one before, and one step of k takes no less time than these.
    """
    together = -(-height // BASES)
    rows: list[Any] = []
    for i in range(height):
        if i % together:
            rows.append(floats.at(builder, rows[i - i % together], builder.mul(a_row, INDEX(i % together))))
        else:
            rows.append(_hidden(builder, floats.at(builder, a, builder.mul(a_row, INDEX(i)))))
    return rows


def _hidden(builder: Any, value: Any) -> Any:
    """The same value, of which LLVM does not know how it came about."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)


def _behind(builder: Any, floats: Floats, address: Any, count: Any) -> Any:
    """The address `count` entries further."""
    return builder.add(address, builder.mul(count, INDEX(floats.item)))


def _phis(builder: Any, floats: Floats, sources: dict[Any, dict[Any, Any]]) -> dict[Any, Any]:
    """The values of a tile, which come from several blocks."""
    merged = {cell: builder.phi(floats.vector) for cell in next(iter(sources.values()))}
    for block, values in sources.items():
        for cell, phi in merged.items():
            phi.add_incoming(values[cell], block)
    return merged


def _entry(builder: Any, floats: Floats, address: Any, number: int) -> Any:
    """Where a tile on the stack has its vector `number`."""
    return floats.at(builder, builder.inttoptr(address, POINTER), INDEX(number * floats.lanes))


def _not_unrolled(module: Any) -> Any:
    """A loop's metadata: LLVM's unrolling would load the next step's factors early and run out of registers."""
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = ir.values.MDValue(module, [disable], str(len(module.metadata)))
    loop.operands = (loop, disable)  # LLVM knows a loop's metadata by a first operand that is the node itself
    return loop


def _has(builder: Any, flags: Any, bit: int) -> Any:
    return builder.icmp_signed("!=", builder.and_(flags, INDEX(bit)), INDEX(0))


@inlined
def strip(
    typing_context: Any,
    a: Any, a_row: Any, a_step: Any, a_tile: Any, b: Any, b_step: Any, c: Any, c_row: Any, lanes: Any, flags: Any,
    bias: Any, tiles: Any, segments: Any, count: Any, stack: Any, height: Any, vectors: Any,
    ITEM: Any, LANES: Any, SUMS: Any, ROWS: Any, WIDEST: Any,
) -> Any:  # fmt: skip
    """C = A B, or C + A B, for `tiles` tiles below each other, each `height` rows by `vectors` vectors, which stay in registers.

    A[i, k] of a tile is at a + a_row i + a_step k, and the next tile's `a_tile` further. B[k, :] is at b + b_step k, in whole
    vectors. C[i, :] is at c + c_row i; of its last vector only the first `lanes` entries are touched. `flags`: see
    `ADD_TO_RESULT` and `ADD_BIAS`.

    `segments` is the address of a table of `count` segments (`FIELDS`). The sum of a segment is
    fma(A[i, last], B[last, j], ... fma(A[i, first], B[first, j], start)), whatever the tile. Then the last `merges` sums are
    taken from the `stack` and added, and the sum is put there, or to C if it is the last one.
    """
    constants = [t.literal_value for t in (ITEM, LANES, SUMS, ROWS, WIDEST)]
    signature = types.void(*[types.int64] * (ARGUMENTS + 2), ITEM, LANES, SUMS, ROWS, WIDEST)

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        item, lanes, sums, rows, widest = constants
        floats = Floats(item, lanes)
        given, height, vectors = values[:ARGUMENTS], values[ARGUMENTS], values[ARGUMENTS + 1]
        end = builder.append_basic_block("stripped")
        none = builder.append_basic_block("no_such_tile")
        choice = builder.switch(builder.add(builder.mul(height, INDEX(widest + 1)), vectors), none)
        for h in range(1, rows + 1):
            for v in sorted({*range(1, sums // rows + 1), min(sums // h, widest)}):
                name = f"allgrad_strip_{h}_{v}_{floats.suffix}"
                function = internal(builder.module, name, ARGUMENTS, _strip_function(floats, h, v))
                block = builder.append_basic_block(f"strip_{h}_{v}")
                choice.add_case(INDEX(h * (widest + 1) + v), block)
                builder.position_at_end(block)
                builder.call(function, given)
                builder.branch(end)
        builder.position_at_end(none)
        builder.unreachable()
        builder.position_at_end(end)

    return signature, code


@inlined
def write_segment(typing_context: Any, segments: Any, number: Any, steps: Any, merges: Any) -> Any:
    """Write an entry of the table that `strip` reads."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        table = builder.inttoptr(values[0], POINTER)
        for field in range(FIELDS):
            builder.store(values[2 + field], _field(builder, table, values[1], field))

    return types.void(*[types.int64] * (2 + FIELDS)), code


def _field(builder: Any, table: Any, segment: Any, field: int) -> Any:
    """Where a field of a segment is."""
    place = builder.add(builder.mul(segment, INDEX(FIELDS)), INDEX(field))
    return builder.gep(table, [place], source_etype=INDEX)
