"""The parts of the matrix product that numba cannot express, written as LLVM code: the micro-kernel and the packing moves.

numba compiles them together with the loops that call them (`blocking.py`), for the CPU that it compiles everything else for,
and keeps them in its cache. Addresses are integers, strides and offsets count elements.
"""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

cgutils: Any = untyped_cgutils  # numba has no types for it
INDEX = ir.IntType(64)
POINTER = ir.PointerType()


def inlined(function: Callable[..., Any]) -> Any:
    """Makes a function of compiled code from one that gives its type and writes its instructions."""
    return intrinsic(prefer_literal=True)(function)


ADD_TO_RESULT, ADD_BIAS = 1, 2
"""Flags of `tile`: the sums start from what C holds; a bias is added at the end."""


class Floats:
    """Types and instructions for one element size and vector length."""

    def __init__(self, item: int, lanes: int) -> None:
        self.item, self.lanes = item, lanes
        self.scalar = ir.FloatType() if item == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, lanes)
        self.mask = ir.VectorType(ir.IntType(1), lanes)
        self.suffix = f"v{lanes}f{8 * item}"

    def at(self, builder: Any, pointer: Any, offset: Any) -> Any:
        return builder.gep(pointer, [offset], source_etype=self.scalar)

    def load(self, builder: Any, pointer: Any, mask: Any = None) -> Any:
        """A vector. Lanes outside of the mask are zero, and their memory is not touched."""
        if mask is None:
            return builder.load(pointer, typ=self.vector, align=self.item)
        function = self._function(
            builder, "masked.load", self.vector, [POINTER, ir.IntType(32), self.mask, self.vector], ".p0"
        )
        return builder.call(function, [pointer, ir.IntType(32)(self.item), mask, ir.Constant(self.vector, None)])

    def store(self, builder: Any, value: Any, pointer: Any, mask: Any = None) -> None:
        if mask is None:
            builder.store(value, pointer, align=self.item)
            return
        kinds = [self.vector, POINTER, ir.IntType(32), self.mask]
        function = self._function(builder, "masked.store", ir.VoidType(), kinds, ".p0")
        builder.call(function, [value, pointer, ir.IntType(32)(self.item), mask])

    def splat(self, builder: Any, scalar: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        one = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return builder.shuffle_vector(one, undefined, zeros)

    def fma(self, builder: Any, a: Any, b: Any, c: Any) -> Any:
        return builder.call(self._function(builder, "fma", self.vector, [self.vector] * 3), [a, b, c])

    def first_lanes(self, builder: Any, count: Any) -> Any:
        """The mask of the first `count` lanes."""
        numbers = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), list(range(self.lanes)))
        return builder.icmp_signed("<", numbers, self.splat(builder, builder.trunc(count, ir.IntType(32))))

    def _function(self, builder: Any, name: str, result: Any, arguments: list[Any], ending: str = "") -> Any:
        kind = ir.FunctionType(result, arguments)
        llvm_name = f"llvm.{name}.{self.suffix}{ending}"
        return builder.module.globals.get(llvm_name) or ir.Function(builder.module, kind, llvm_name)


# -- the micro-kernel ------------------------------------------------------------------------------------------------


def _strip_function(floats: Floats, height: int, vectors: int) -> Callable[[Any, Any], None]:
    """Writes the micro-kernel for one size of tile; see `strip`."""
    cells = [(i, j) for i in range(height) for j in range(vectors)]

    def write(builder: Any, arguments: Any) -> None:
        depth, a_start, a_row, a_step, a_tile, b, b_step, c_start, c_row, lanes, flags, bias, tiles = arguments
        b, bias = (builder.inttoptr(p, POINTER) for p in (b, bias))
        whole = builder.icmp_signed("==", lanes, INDEX(floats.lanes))
        mask = floats.first_lanes(builder, lanes)
        entry = builder.block
        tile, start, zero, full, cut, loop, end, biased, store, done = (
            builder.append_basic_block(name)
            for name in ("tile", "start", "zero", "full", "cut", "loop", "end", "biased", "store", "done")
        )
        builder.branch(tile)

        builder.position_at_end(tile)
        number, a_address, c_address = (builder.phi(INDEX) for _ in range(3))
        a, c = builder.inttoptr(a_address, POINTER), builder.inttoptr(c_address, POINTER)
        a_rows = [floats.at(builder, a, builder.mul(a_row, INDEX(i))) for i in range(height)]
        c_rows = [floats.at(builder, c, builder.mul(c_row, INDEX(i))) for i in range(height)]
        places = {(i, j): floats.at(builder, c_rows[i], INDEX(j * floats.lanes)) for i, j in cells}
        # A tile that starts from zero needs its lines when its sums are done, one that adds needs them at once.
        adds = _has(builder, flags, ADD_TO_RESULT)
        ahead = builder.select(adds, builder.mul(c_row, INDEX(height)), INDEX(0))
        for row in c_rows:
            for offset in (0, vectors * floats.lanes - 1):
                _prefetch(builder, floats.at(builder, row, builder.add(ahead, INDEX(offset))))
        builder.cbranch(adds, start, zero)

        builder.position_at_end(start)
        builder.cbranch(whole, full, cut)
        first: dict[Any, dict[tuple[int, int], Any]] = {zero: dict.fromkeys(cells, ir.Constant(floats.vector, None))}
        for block in (full, cut):
            builder.position_at_end(block)
            masked = mask if block is cut else None
            first[block] = {
                (i, j): floats.load(builder, places[i, j], masked if j == vectors - 1 else None) for i, j in cells
            }
        for block in first:
            builder.position_at_end(block)
            builder.cbranch(builder.icmp_signed(">", depth, INDEX(0)), loop, end)

        # One fused multiply-add per element and step: this is the chain that decides the bits.
        builder.position_at_end(loop)
        k, a_offset, b_offset = (builder.phi(INDEX) for _ in range(3))
        sums = {cell: builder.phi(floats.vector) for cell in cells}
        b_row = floats.at(builder, b, b_offset)
        line = [floats.load(builder, floats.at(builder, b_row, INDEX(j * floats.lanes))) for j in range(vectors)]
        new = {}
        for i in range(height):
            factor = floats.splat(builder, builder.load(floats.at(builder, a_rows[i], a_offset), typ=floats.scalar))
            for j in range(vectors):
                new[i, j] = floats.fma(builder, factor, line[j], sums[i, j])
        steps = [(k, INDEX(1)), (a_offset, a_step), (b_offset, b_step)]
        following = [builder.add(value, step) for value, step in steps]
        again = builder.cbranch(builder.icmp_signed("<", following[0], depth), loop, end)
        again.set_metadata("llvm.loop", _not_unrolled(builder.module))
        for (phi, _), value in zip(steps, following, strict=True):
            for block in first:
                phi.add_incoming(INDEX(0), block)
            phi.add_incoming(value, loop)
        for cell in cells:
            for block, values in first.items():
                sums[cell].add_incoming(values[cell], block)
            sums[cell].add_incoming(new[cell], loop)

        builder.position_at_end(end)
        results = {cell: builder.phi(floats.vector) for cell in cells}
        for cell in cells:
            for block, values in {**first, loop: new}.items():
                results[cell].add_incoming(values[cell], block)
        builder.cbranch(_has(builder, flags, ADD_BIAS), biased, store)
        builder.position_at_end(biased)
        # The bias has as many entries as the result has columns, so its last vector needs the mask as well.
        shifts = [
            floats.load(builder, floats.at(builder, bias, INDEX(j * floats.lanes)), mask if j == vectors - 1 else None)
            for j in range(vectors)
        ]
        shifted = {(i, j): builder.fadd(results[i, j], shifts[j]) for i, j in cells}
        builder.branch(store)
        builder.position_at_end(store)
        values = {cell: builder.phi(floats.vector) for cell in cells}
        for cell in cells:
            values[cell].add_incoming(results[cell], end)
            values[cell].add_incoming(shifted[cell], biased)
        with builder.if_else(whole) as (all_lanes, some_lanes):
            for branch, masked in ((all_lanes, None), (some_lanes, mask)):
                with branch:
                    for i, j in cells:
                        floats.store(builder, values[i, j], places[i, j], masked if j == vectors - 1 else None)
        advances = [
            (number, INDEX(0), INDEX(1)),
            (a_address, a_start, builder.mul(a_tile, INDEX(floats.item))),
            (c_address, c_start, builder.mul(c_row, INDEX(height * floats.item))),
        ]
        stored = builder.block
        for phi, initial, step in advances:
            phi.add_incoming(initial, entry)
            phi.add_incoming(builder.add(phi, step), stored)
        builder.cbranch(builder.icmp_signed("<", builder.add(number, INDEX(1)), tiles), tile, done)
        builder.position_at_end(done)

    return write


def _prefetch(builder: Any, pointer: Any) -> None:
    """Ask for a line of memory that will be written."""
    word = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [POINTER, word, word, word])
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [pointer, word(1), word(3), word(1)])


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
    depth: Any, a: Any, a_row: Any, a_step: Any, a_tile: Any, b: Any, b_step: Any, c: Any, c_row: Any, lanes: Any, flags: Any,
    bias: Any, tiles: Any, height: Any, vectors: Any, ITEM: Any, LANES: Any, SUMS: Any, ROWS: Any, WIDEST: Any,
) -> Any:  # fmt: skip
    """C = A B, or C + A B, for `tiles` tiles below each other, each `height` rows by `vectors` vectors, which stay in registers.

    A[i, k] of a tile is at a + a_row i + a_step k, and the next tile's `a_tile` further. B[k, :] is at b + b_step k, in whole
    vectors. C[i, :] is at c + c_row i; of its last vector only the first `lanes` entries are touched. `flags`: see
    `ADD_TO_RESULT` and `ADD_BIAS`. Each element is fma(A[i, depth - 1], B[depth - 1, j], ... fma(A[i, 0], B[0, j], start)),
    whatever the tile.
    """
    constants = [t.literal_value for t in (ITEM, LANES, SUMS, ROWS, WIDEST)]
    signature = types.void(*[types.int64] * 15, ITEM, LANES, SUMS, ROWS, WIDEST)

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        item, lanes, sums, rows, widest = constants
        floats = Floats(item, lanes)
        given, height, vectors = values[:13], values[13], values[14]
        end = builder.append_basic_block("stripped")
        none = builder.append_basic_block("no_such_tile")
        choice = builder.switch(builder.add(builder.mul(height, INDEX(widest + 1)), vectors), none)
        for h in range(1, rows + 1):
            for v in sorted({*range(1, sums // rows + 1), min(sums // h, widest)}):
                function = _internal(
                    builder.module, f"allgrad_strip_{h}_{v}_{floats.suffix}", 13, _strip_function(floats, h, v)
                )
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
def call(typing_context: Any, function: Any, arguments: Any) -> Any:
    """Call compiled code at an address with a tuple of 64-bit integers.

    So the code is compiled once, on its own, and not again with each of its callers.
    """

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        given = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [INDEX] * len(given))
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), given)

    return types.void(function, arguments), code


# -- packing ---------------------------------------------------------------------------------------------------------


@inlined
def pack(
    typing_context: Any, depth: Any, width: Any, source: Any, step: Any, column: Any, target: Any, target_step: Any,
    ITEM: Any, LANES: Any,
) -> Any:  # fmt: skip
    """target[k, :target_step] = source[k, :width] and then zeros, for k < depth.

    source[k, j] is at source + step k + column j. Where columns are contiguous, whole vectors are written: up to a vector
    more than target_step, which the next row overwrites.
    """
    floats = Floats(ITEM.literal_value, LANES.literal_value)

    def write(builder: Any, arguments: Any) -> None:
        depth, width, source, step, column, target, target_step = arguments
        source, target = (builder.inttoptr(p, POINTER) for p in (source, target))
        with builder.if_else(builder.icmp_signed("==", column, INDEX(1))) as (contiguous, strided):
            with contiguous, cgutils.for_range(builder, depth) as row:
                start = floats.at(builder, source, builder.mul(row.index, step))
                there = floats.at(builder, target, builder.mul(row.index, target_step))
                _copy_row(builder, floats, width, start, there)
            with strided:
                _copy_turned(builder, floats, depth, width, source, step, column, target, target_step)

    return routine(7, f"allgrad_pack_{floats.suffix}", write, (ITEM, LANES))


@inlined
def pack_panels(
    typing_context: Any, depth: Any, width: Any, source: Any, step: Any, target: Any, panel: Any, ITEM: Any, LANES: Any
) -> Any:
    """Cuts `width` contiguous columns into panels of `panel` columns, one behind the other, each (depth, panel).

    It reads row by row, which is what memory likes. The last vector of the last panel is filled up with zeros.
    """
    floats = Floats(ITEM.literal_value, LANES.literal_value)

    def write(builder: Any, arguments: Any) -> None:
        depth, width, source, step, target, panel = arguments
        source, target = (builder.inttoptr(p, POINTER) for p in (source, target))
        panels = builder.sdiv(width, panel)
        last = builder.mul(panels, panel)
        with cgutils.for_range(builder, depth) as row:
            start = floats.at(builder, source, builder.mul(row.index, step))
            there = floats.at(builder, target, builder.mul(row.index, panel))
            with cgutils.for_range(builder, panels) as each:
                offset = builder.mul(each.index, panel)
                _copy_row(
                    builder, floats, panel,
                    floats.at(builder, start, offset), floats.at(builder, there, builder.mul(offset, depth)),
                )  # fmt: skip
            _copy_row(
                builder, floats, builder.sub(width, last),
                floats.at(builder, start, last), floats.at(builder, there, builder.mul(last, depth)),
            )  # fmt: skip

    return routine(6, f"allgrad_pack_panels_{floats.suffix}", write, (ITEM, LANES))


def _copy_row(builder: Any, floats: Floats, width: Any, source: Any, target: Any) -> None:
    """Contiguous numbers, in whole vectors whose last one is filled up with zeros."""
    length = INDEX(floats.lanes)
    vectors = builder.sdiv(width, length)
    whole = builder.mul(vectors, length)
    rest = builder.sub(width, whole)
    with cgutils.for_range(builder, vectors) as vector:
        offset = builder.mul(vector.index, length)
        floats.store(
            builder, floats.load(builder, floats.at(builder, source, offset)), floats.at(builder, target, offset)
        )
    with builder.if_then(builder.icmp_signed(">", rest, INDEX(0))):
        value = floats.load(builder, floats.at(builder, source, whole), floats.first_lanes(builder, rest))
        floats.store(builder, value, floats.at(builder, target, whole))


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
) -> None:
    """Rows whose numbers are apart: squares are transposed in registers where k is contiguous, the rest goes one by one."""
    square = Floats(floats.item, min(floats.lanes, 32 // floats.item))
    side, none = INDEX(square.lanes), INDEX(0)
    turned = builder.icmp_signed("==", step, INDEX(1))
    whole_depth, whole_width = (
        builder.select(turned, builder.mul(builder.sdiv(n, side), side), none) for n in (depth, width)
    )
    with (
        cgutils.for_range(builder, builder.sdiv(whole_width, side)) as across,
        cgutils.for_range(builder, builder.sdiv(whole_depth, side)) as down,
    ):
        k, j = builder.mul(down.index, side), builder.mul(across.index, side)
        start = square.at(builder, source, builder.add(builder.mul(j, column), k))
        there = square.at(builder, target, builder.add(builder.mul(k, target_step), j))
        numbers = range(square.lanes)
        lines = [square.load(builder, square.at(builder, start, builder.mul(column, INDEX(n)))) for n in numbers]
        for n, line in zip(numbers, _transposed(builder, lines), strict=True):
            square.store(builder, line, square.at(builder, there, builder.mul(target_step, INDEX(n))))
    with cgutils.for_range(builder, depth) as row:
        start = floats.at(builder, source, builder.mul(row.index, step))
        there = floats.at(builder, target, builder.mul(row.index, target_step))
        done = builder.select(builder.icmp_signed("<", row.index, whole_depth), whole_width, none)
        with cgutils.for_range_slice(builder, done, width, INDEX(1)) as (j, _):
            value = builder.load(floats.at(builder, start, builder.mul(j, column)), typ=floats.scalar)
            builder.store(value, floats.at(builder, there, j))
        with cgutils.for_range_slice(builder, width, target_step, INDEX(1)) as (j, _):
            builder.store(floats.scalar(0), floats.at(builder, there, j))


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
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


def _internal(module: Any, name: str, arguments: int, write: Callable[[Any, Any], None]) -> Any:
    """A function of this module that takes 64-bit integers; `write(builder, arguments)` fills it at the first request."""
    found = module.globals.get(name)
    if found is None:
        found = ir.Function(module, ir.FunctionType(ir.VoidType(), [INDEX] * arguments), name)
        found.linkage = "internal"
        found.attributes.add("noinline")
        found.attributes.add("nounwind")
        builder = ir.IRBuilder(found.append_basic_block("entry"))
        write(builder, found.args)
        builder.ret_void()
    return found


def routine(
    arguments: int, name: str, write: Callable[[Any, Any], None], constants: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Type and code of an intrinsic: integers, then constants; its code is one call of a function made by `write`."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        builder.call(_internal(builder.module, name, arguments, write), values[:arguments])

    return types.void(*[types.int64] * arguments, *constants), code


@inlined
def address(typing_context: Any, array: Any) -> Any:
    """Where an array's first element is."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        return builder.ptrtoint(data, INDEX)

    return types.int64(array), code
