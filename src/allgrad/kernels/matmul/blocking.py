"""The loops around the micro-kernel, in numba's subset: blocks that stay in cache, and the packing that feeds them.

The order of the loops and the sizes of the blocks change no bit, because each block of k starts from the sums that the
previous block left in C.
"""

from __future__ import annotations

from typing import Any

from allgrad.kernels.jit import callee
from allgrad.kernels.matmul.arrays import (
    ALIGNED,
    DATA,
    WRITEABLE,
    address_of,
    apart,
    is_array,
    length,
    ndim,
    stride,
    word,
)
from allgrad.kernels.matmul.column import column
from allgrad.kernels.matmul.llvm import address, call
from allgrad.kernels.matmul.packing import pack
from allgrad.kernels.matmul.strip import ADD_BIAS, ADD_TO_RESULT, strip, write_segment

DEPTH = 512
"""Steps of k per block: a panel of B of this depth fills a first-level cache. Fewer would read and write C more often."""
BLOCK_COLUMNS = 2048
"""Columns of B that are packed at a time."""
STRIPE = 8
"""Panels that are packed at a time, if all rows of A are in one block: they are still in a near cache when they are used."""
BLOCK_A = 1 << 18
"""Bytes of A per block: what all panels of B share, and what stays in the second-level cache."""
WIDEST_PANEL = 128
"""Columns of the widest panel, and at least as many as a tile has rows."""
LARGEST_TILE = 512
"""Entries of a tile, at most."""
UNPACKED_ROWS = 36
"""With at most this many rows a panel of B is used too few times to be worth a copy."""
SMALL_B = 1 << 14
"""Bytes of a B that stays in a first-level cache as it is, and is not packed if its rows are contiguous."""
BLOCK_TURNED = 1 << 17
"""Bytes of the transposed result per block."""
TURNED_ROWS = 512
"""Rows of a product whose transposed result is computed instead, at most: tiles of this width fit into its block."""

DONE, COPY, ROOM, MISMATCH = 0, 1, 2, 3
"""What `multiply_objects` answers. Unless it is DONE, nothing was written, because: c may overlap an argument, its rows are not
contiguous, or a stride is no multiple of the element size; the scratch is too small; shapes do not fit.
"""

CORE, ROOM_ADDRESS, ROOM_SIZE, KIND, DTYPE, NONE, ELEMENT = range(0, 56, 8)
"""Fields of the settings of `multiply_objects`: the address of the compiled `product`, scratch and its size in elements, the
addresses of `numpy.ndarray`, of the dtype and of None, and the bytes of an element.
"""

# What depends on the tile and the dtype is put in by `product.Product`, which compiles these functions for both.
ITEM = LANES = ROWS = SUMS = WIDEST = PANEL = 0


@callee
def scratch_size(inner: Any, columns: Any, segments: Any = 0) -> Any:
    """Elements of scratch that `product` needs: a block of A, a block of B with a whole last panel, and gaps for alignment.

    With segments there is one block of k, and a tile on the stack for each of them.
    """
    depth = inner if segments else min(inner, DEPTH)
    blocks = BLOCK_A // 4 + BLOCK_TURNED // 4 + (WIDEST_PANEL + min(columns, BLOCK_COLUMNS)) * (depth + 1)
    return blocks + LARGEST_TILE * (segments + 2)


@callee
def multiply(
    core: Any, rows: Any, inner: Any, columns: Any, a: Any, a_row: Any, a_step: Any, b: Any, b_step: Any, b_column: Any,
    c: Any, c_row: Any, adds: Any, room: Any, segments: Any = 0, count: Any = 0,
) -> None:  # fmt: skip
    """`product` without a bias. `core` is its address; nothing is checked. Plain numbers spare a version per array layout."""
    call(
        core, (rows, inner, columns, a, a_row, a_step, b, b_step, b_column, c, c_row, 0, adds, room, segments, count, 0)
    )


@callee
def multiply_panels(core: Any, a: Any, panels: Any, c: Any, room: Any) -> None:
    """c = a @ b for C-contiguous a and c, and b's columns in C-contiguous panels (panels, inner, width); nothing is checked."""
    inner, width = panels.shape[1:]
    rows, columns = c.shape
    numbers = (
        rows, inner, columns, address(a), inner, 1, address(panels), width, 1, address(c), columns, 0, 0, address(room), 0, 0,
        inner * width,
    )  # fmt: skip
    call(core, numbers)


def multiply_objects(settings: Any, a: Any, b: Any, c: Any, bias: Any) -> Any:
    """c = a @ b + bias for NumPy arrays (`arrays.py`) of two to four axes, which broadcast as in NumPy; `DONE`, or why not.

    What is no array that it can work with, or does not fit, is a MISMATCH. `bias` may be None. `settings` is the address of a
    table (see the fields above).
    """
    return _of_objects(settings, address_of(a), address_of(b), address_of(c), address_of(bias))


@callee
def _of_objects(settings: Any, a: Any, b: Any, c: Any, bias: Any) -> Any:
    kind, dtype, item = word(settings + KIND), word(settings + DTYPE), word(settings + ELEMENT)
    biased = bias != word(settings + NONE)
    if not (
        is_array(a, kind, dtype, ALIGNED)
        and is_array(b, kind, dtype, ALIGNED)
        and is_array(c, kind, dtype, ALIGNED | WRITEABLE)
        and (not biased or is_array(bias, kind, dtype, ALIGNED))
    ):
        return MISMATCH
    axes, axes_a, axes_b = ndim(c), ndim(a), ndim(b)
    if axes > 4 or min(axes_a, axes_b) < 2 or max(axes_a, axes_b) != axes:
        return MISMATCH
    rows, columns, inner = length(c, axes - 2), length(c, axes - 1), length(a, axes_a - 1)
    if length(a, axes_a - 2) != rows or length(b, axes_b - 2) != inner or length(b, axes_b - 1) != columns:
        return MISMATCH
    if biased and (ndim(bias) != 1 or length(bias, 0) != columns):
        return MISMATCH
    outer, from_a, from_b = _leading(c, axes, 4), _leading(a, axes_a, 4), _leading(b, axes_b, 4)
    inside, inside_a, inside_b = _leading(c, axes, 3), _leading(a, axes_a, 3), _leading(b, axes_b, 3)
    if not (_broadcast(outer[0], from_a[0], from_b[0]) and _broadcast(inside[0], inside_a[0], inside_b[0])):
        return MISMATCH
    if rows * columns * outer[0] * inside[0] == 0:
        return DONE
    a_row, a_step = stride(a, axes_a - 2), stride(a, axes_a - 1)
    b_step, b_column = stride(b, axes_b - 2), stride(b, axes_b - 1)
    c_row = stride(c, axes - 2)
    if (a_row | a_step | b_step | b_column | c_row) & (item - 1) or (columns > 1 and stride(c, axes - 1) != item):
        return COPY
    if (biased and not apart(bias, c)) or (inner > 0 and not (apart(a, c) and apart(b, c))):
        return COPY
    if word(settings + ROOM_SIZE) < scratch_size(inner, columns):
        return ROOM
    shift = 3 if item == 8 else 2
    for i in range(outer[0]):
        for j in range(inside[0]):
            numbers = (
                rows, inner, columns,
                word(a + DATA) + i * from_a[1] + j * inside_a[1], a_row >> shift, a_step >> shift,
                word(b + DATA) + i * from_b[1] + j * inside_b[1], b_step >> shift, b_column >> shift,
                word(c + DATA) + i * outer[1] + j * inside[1], c_row >> shift,
                word(bias + DATA) if biased else 0, 0, word(settings + ROOM_ADDRESS), 0, 0, 0,
            )  # fmt: skip
            call(word(settings + CORE), numbers)
    return DONE


@callee
def _broadcast(to: Any, first: Any, second: Any) -> bool:
    """Whether axes of both lengths broadcast to that length."""
    return (first == to and (second == to or second == 1)) or (first == 1 and second == to)


@callee
def _leading(x: Any, axes: Any, from_the_right: Any) -> Any:
    """Length and stride of a leading axis, which an array of fewer axes has with length 1; the stride of a length 1 is 0."""
    axis = axes - from_the_right
    if axis < 0:
        return 1, 0
    size = length(x, axis)
    return size, stride(x, axis) if size > 1 else 0


def product(
    rows: Any, inner: Any, columns: Any, a: Any, a_row: Any, a_step: Any, b: Any, b_step: Any, b_column: Any, c: Any,
    c_row: Any, bias: Any, adds: Any, room: Any, segments: Any, count: Any, pitch: Any,
) -> None:  # fmt: skip
    """c = a @ b + bias for a (rows, inner), b (inner, columns), c (rows, columns) at these addresses and strides, counted in
    elements. Rows of c are contiguous; a bias of 0 means none. If it `adds`, each sum starts from what c holds. `room` is the
    address of scratch, see `scratch_size`.

    With a table of `count` segments (see `strip`), of which there may be none, k is not cut into blocks. If `pitch` is not 0, b
    is packed already: panels of PANEL columns, `pitch` entries apart.

    If b is a transposed view and a has few rows, packing b would take a good part of the time. Then b's columns, which are
    contiguous, take the place of a's rows: the transposed result is computed, `chunk` rows at a time, and copied to c.
    """
    turns = b_step == 1 and b_column != 1 and rows <= TURNED_ROWS and rows * (inner + columns) < inner * columns
    turns = turns and not (bias or adds or count)
    room = (room + 63) // 64 * 64
    chunk, result, result_row, height = max(1, rows), c, c_row, rows
    if turns:
        rows, columns, a, a_row, a_step, b, b_step, b_column = columns, rows, b, b_column, 1, a, a_step, a_row
        height, result, result_row = rows, room, -(-columns // LANES) * LANES
        chunk = max(ROWS, BLOCK_TURNED // (ITEM * result_row))
        chunk = -(-rows // -(-rows // chunk))  # of nearly equal height
        room += chunk * result_row * ITEM
    # A single column beside whole panels is computed on its own, if it is long enough.
    odd = (
        columns > PANEL
        and columns % PANEL == 1
        and rows >= 4 * LANES
        and min(a_row, a_step) == 1
        and count + pitch == 0
    )
    all_columns = columns
    columns -= 1 if odd else 0
    deep = 1 if count > 0 else max(1, -(-inner // DEPTH))
    depth = -(-inner // deep)
    in_block = max(1, BLOCK_A // (ITEM * (ROWS * depth + LANES)))
    own_table, stack = room, room + 64
    table = segments if count > 0 else own_table
    room_a = (stack + count * SUMS * LANES * ITEM + 63) // 64 * 64
    for start in range(0, height, chunk):
        rows = min(chunk, height - start)
        tiles = -(-rows // ROWS)  # of nearly equal height: the first `tall` have a row more than the others
        low = rows // tiles
        tall = rows - tiles * low
        most = min(SUMS // (low + (1 if tall else 0)), WIDEST)
        panel = most * LANES if tiles == 1 and pitch == 0 and most * LANES < columns + LANES else PANEL
        packs_a = (a_step != 1 and a_row != 1) or columns > (8 if a_step == 1 else 2) * panel  # transposing costs more
        packs_b = b_column != 1 or (rows > UNPACKED_ROWS and inner * b_step * ITEM > SMALL_B)
        narrow = tiles <= in_block and (deep == 1 or not packs_a)  # otherwise A would be packed again for each stripe
        wide = min(STRIPE if narrow else BLOCK_COLUMNS // panel, -(-columns // panel)) * panel
        room_b = (room_a + min(in_block, tiles) * (ROWS * depth + LANES) * ITEM + 63) // 64 * 64
        for left in range(0, columns, wide):
            width = min(wide, columns - left)
            # Columns from here on are packed: all of them, or a last panel that does not end with a whole vector.
            packed = 0 if packs_b or pitch > 0 else width if width % LANES == 0 else (width - 1) // PANEL * PANEL
            part = panel if packs_b else PANEL
            parts = (width - packed) // part
            for block in range(deep):
                k = block * depth
                steps = min(depth, inner - k)
                if count == 0:
                    write_segment(own_table, 0, steps, 0)
                flags = (ADD_TO_RESULT if adds or block > 0 else 0) | (ADD_BIAS if block == deep - 1 and bias else 0)
                here_b = b + (k * b_step + left * b_column) * ITEM
                if pitch > 0:
                    panels, pitch_b = b + (left // part * pitch + k * part) * ITEM, pitch
                else:
                    # An odd number of rows: panels do not take each other's places in caches.
                    panels, pitch_b = room_b, part * (steps | 1)
                    pack(
                        steps, here_b + packed * b_column * ITEM, b_step, b_column, parts, part, width - packed - parts * part,
                        panels, part, pitch_b, part, PANEL, ITEM, LANES,
                    )  # fmt: skip
                column_b, last_stripe = room_b + (wide + panel) * (depth | 1) * ITEM, left + width == columns
                if odd and last_stripe:
                    from_b = here_b + width * b_column * ITEM
                    pack(steps, from_b, b_step, b_column, 0, 1, 1, column_b, 1, 0, 0, PANEL, ITEM, LANES)
                for first in range(0, tiles, in_block):
                    last = min(first + in_block, tiles)
                    border = max(first, min(last, tall))  # where tiles become lower
                    groups = ((border - first, low + 1), (last - border, low))
                    top = start + first * low + min(first, tall)
                    from_a, a_tile = a + (top * a_row + k * a_step) * ITEM, ROWS * steps + LANES
                    if odd and last_stripe:
                        column(
                            (border - first) * (low + 1) + (last - border) * low, steps, from_a, a_row, a_step, column_b,
                            result + ((top - start if turns else top) * result_row + columns) * ITEM, result_row,
                            bias + columns * ITEM if flags & ADD_BIAS else 0, flags & ADD_TO_RESULT, ITEM, LANES,
                        )  # fmt: skip
                    if packs_a:  # each tile as (steps, ROWS)
                        target = room_a
                        for number, high in groups:
                            if left == 0 or not narrow:
                                pack(
                                    steps, from_a, a_step, a_row, number, high, 0, target, ROWS, a_tile, ROWS, ROWS, ITEM, LANES
                                )  # fmt: skip
                            from_a += number * high * a_row * ITEM
                            target += number * a_tile * ITEM
                        from_a = room_a
                    j = 0
                    while j < width:
                        stop = min(j + panel, packed if j < packed else width)
                        from_b, step_b = here_b + j * ITEM, b_step
                        if j >= packed:
                            from_b, step_b = panels + (j - packed) // part * pitch_b * ITEM, part
                        while j < stop:
                            vectors = -(-(stop - j) // LANES)
                            vectors = vectors if vectors * LANES == panel else min(vectors, PANEL // LANES)
                            lanes = min(LANES, stop - j - (vectors - 1) * LANES)
                            at_a, row = from_a, top - start if turns else top
                            for number, high in groups:
                                tile = a_tile if packs_a else high * a_row
                                if number > 0:
                                    strip(
                                        at_a, 1 if packs_a else a_row, ROWS if packs_a else a_step, tile, from_b, step_b,
                                        result + (row * result_row + left + j) * ITEM, result_row, lanes, flags,
                                        bias + (left + j) * ITEM, number, table, max(1, count), stack, high, vectors,
                                        ITEM, LANES, SUMS, ROWS, WIDEST,
                                    )  # fmt: skip
                                at_a += number * tile * ITEM
                                row += number * high
                            j += vectors * LANES
                            from_b += vectors * LANES * ITEM
        if turns:
            pack(all_columns, result, 1, result_row, 1, rows, 0, c + start * ITEM, c_row, 0, 0, PANEL, ITEM, LANES)
