"""The loops around the micro-kernel, in numba's subset: blocks that stay in cache, and the packing that feeds them.

The order of the loops and the sizes of the blocks change no bit, because each block of k starts from the sums that the
previous block left in C.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from allgrad.kernels.matmul.ir import ADD_BIAS, ADD_TO_RESULT, address, call, pack, pack_panels, strip

DEPTH = 320
"""Steps of k per block: a panel of B of this depth and a tile of A stay in a first-level cache."""
BLOCK_COLUMNS = 2048
"""Columns of B that are packed at a time."""
BLOCK_A = 1 << 17
"""Bytes of A per block: what all panels of B share, and what stays in the second-level cache."""
WIDEST_PANEL = 128
"""Columns of the widest panel, and at least as many as a tile has rows."""
PAGE = 4096
"""Rows that are a multiple of this many bytes apart take each other's places in the first-level cache."""
UNPACKED_ROWS = 36
"""With at most this many rows a panel of B is used too few times to be worth a copy."""

DONE, COPY, ROOM, MISMATCH = 0, 1, 2, 3
"""What `multiply` answers. Unless it is DONE, nothing was written, because: c may overlap an argument, its rows are not
contiguous, or a stride is no multiple of the element size; the scratch is too small; shapes do not fit.
"""

# What depends on the tile and the dtype is put in by `product.Product`, which compiles these functions for both.
ITEM = LANES = ROWS = SUMS = WIDEST = 0


@register_jitable
def scratch_size(inner: Any, columns: Any) -> Any:
    """Elements of scratch that `multiply` needs: a block of A, a block of B with a whole last panel, and gaps for alignment."""
    return BLOCK_A // 4 + (WIDEST_PANEL + min(columns, BLOCK_COLUMNS)) * min(inner, DEPTH) + 64


@register_jitable
def ends(x: Any) -> Any:
    """The addresses of the first and of the last element of an array that is not empty."""
    low = high = address(x)
    for axis in range(x.ndim):
        reach = (x.shape[axis] - 1) * x.strides[axis]
        if reach < 0:
            low += reach
        else:
            high += reach
    return low, high


@register_jitable
def apart(x: Any, c: Any) -> bool:
    """Whether writing to c leaves x as it is, as far as the ends of both tell."""
    low, high = ends(c)
    low_x, high_x = ends(x)
    return high < low_x or high_x < low


@register_jitable
def fits(a: Any, b: Any, c: Any, bias: Any) -> bool:
    """Whether `multiply` can work with these arrays as they are."""
    item = c.itemsize
    for axis in range(2):
        if a.strides[axis] % item or b.strides[axis] % item or c.strides[axis] % item:
            return False
    if c.shape[1] > 1 and c.strides[1] != item:
        return False
    if bias.size and not apart(bias, c):
        return False
    return a.shape[1] == 0 or (apart(a, c) and apart(b, c))


@register_jitable
def multiply(core: Any, a: Any, b: Any, c: Any, bias: Any, room: Any, adds: Any) -> Any:
    """c = a @ b + bias for a (rows, inner), b (inner, columns), c (rows, columns); `DONE`, or why not.

    If it `adds`, each sum starts from what c holds. `bias` is (columns,), or empty. `room` is scratch of at least
    `scratch_size` elements. `core` is the address of the compiled `product`.
    """
    rows, inner = a.shape
    columns = b.shape[1]
    if b.shape[0] != inner or c.shape != (rows, columns) or (bias.size and bias.size != columns):
        return MISMATCH
    if rows == 0 or columns == 0:
        return DONE
    if not fits(a, b, c, bias):
        return COPY
    item = c.itemsize
    if room.size < scratch_size(inner, columns):
        return ROOM
    numbers = (
        rows, inner, columns, address(a), a.strides[0] // item, a.strides[1] // item,
        address(b), b.strides[0] // item, b.strides[1] // item, address(c), c.strides[0] // item,
        address(bias) if bias.size else 0, 1 if adds else 0, address(room),
    )  # fmt: skip
    call(core, numbers)
    return DONE


@register_jitable
def multiply_panels(core: Any, a: Any, panels: Any, c: Any, room: Any) -> None:
    """c = a @ b for C-contiguous a and c, and b's columns in C-contiguous panels (panels, inner, width); nothing is checked."""
    inner, width = panels.shape[1:]
    rows, columns = c.shape
    for j in range(panels.shape[0]):
        numbers = (
            rows, inner, min(width, columns - j * width), address(a), inner, 1, address(panels) + j * panels.strides[0],
            width, 1, address(c) + j * width * c.itemsize, columns, 0, 0, address(room),
        )  # fmt: skip
        call(core, numbers)


def multiply_matrices(core: Any, a: Any, b: Any, c: Any, bias: Any, room: Any, adds: Any) -> Any:
    """`multiply`, to be called from Python."""
    return multiply(core, a, b, c, bias, room, adds)


def multiply_batches(core: Any, a: Any, b: Any, c: Any, bias: Any, room: Any) -> Any:
    """`multiply` for each index of the first two axes, of which those of a and b may have length 1."""
    for axis in range(2):
        length = c.shape[axis]
        for given in (a.shape[axis], b.shape[axis]):
            if given != length and given != 1:
                return MISMATCH
    if c.size and ((bias.size and not apart(bias, c)) or (a.size and not (apart(a, c) and apart(b, c)))):
        return COPY
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            a_ = a[i if a.shape[0] > 1 else 0, j if a.shape[1] > 1 else 0]
            b_ = b[i if b.shape[0] > 1 else 0, j if b.shape[1] > 1 else 0]
            answer = multiply(core, a_, b_, c[i, j], bias, room, False)
            if answer != DONE:
                return answer
    return DONE


def product(
    rows: Any, inner: Any, columns: Any, a: Any, a_row: Any, a_step: Any, b: Any, b_step: Any, b_column: Any, c: Any,
    c_row: Any, bias: Any, adds: Any, room: Any,
) -> None:  # fmt: skip
    """`multiply` on addresses and strides, of which c has contiguous rows; no bias is 0."""
    tiles = -(-rows // ROWS)  # of nearly equal height: the first `tall` have a row more than the others
    low = rows // tiles
    tall = rows - tiles * low
    base = SUMS // ROWS  # vectors of a panel that each height of a tile can have
    most = min(SUMS // (low + (1 if tall else 0)), WIDEST)
    panel = LANES * (most if tiles == 1 and most * LANES < columns + LANES else base)
    blocks = max(1, -(-inner // DEPTH))
    depth = -(-inner // blocks)
    block_columns = min(BLOCK_COLUMNS // panel * panel, -(-columns // panel) * panel)
    in_block = max(1, BLOCK_A // (ITEM * ROWS * max(1, depth)))
    packs_a = columns > 2 * panel if a_step != 1 else a_row * ITEM % PAGE == 0 and columns > 8 * panel
    packs_a = packs_a or (a_step != 1 and a_row != 1)
    packs_b = b_column != 1 or rows > UNPACKED_ROWS
    room_a = (room + 63) // 64 * 64
    room_b = (room_a + (min(in_block, tiles) * ROWS * depth + LANES) * ITEM + 63) // 64 * 64
    for left in range(0, columns, block_columns):
        width = min(block_columns, columns - left)
        # Columns from here on are packed. Without packing that is a last panel that does not end with a whole vector.
        packed = 0 if packs_b else width if width % LANES == 0 else (width - 1) // panel * panel
        for block in range(blocks):
            k = block * depth
            steps = min(depth, inner - k)
            flags = (ADD_TO_RESULT if adds or block > 0 else 0) | (ADD_BIAS if block == blocks - 1 and bias else 0)
            here_b = b + (k * b_step + left * b_column) * ITEM
            if b_column == 1:
                pack_panels(steps, width - packed, here_b + packed * ITEM, b_step, room_b, panel, ITEM, LANES)
            else:
                for j in range(packed, width, panel):
                    target = room_b + (j - packed) * steps * ITEM
                    pack(
                        steps, min(panel, width - j), here_b + j * b_column * ITEM, b_step, b_column, target, panel,
                        ITEM, LANES,
                    )  # fmt: skip
            for first in range(0, tiles, in_block):
                last = min(first + in_block, tiles)
                border = max(first, min(last, tall))  # where tiles become lower
                top = first * low + min(first, tall)
                from_a = a + (top * a_row + k * a_step) * ITEM
                if packs_a:  # each tile as (steps, ROWS)
                    for t in range(first, last):
                        source = from_a + ((t - first) * low + min(t, border) - first) * a_row * ITEM
                        target = room_a + (t - first) * ROWS * steps * ITEM
                        pack(steps, low + 1 if t < border else low, source, a_step, a_row, target, ROWS, ITEM, LANES)
                    from_a = room_a
                for j in range(0, width, panel):
                    from_b, step_b = here_b + j * ITEM, b_step
                    if j >= packed:
                        from_b, step_b = room_b + (j - packed) * steps * ITEM, panel
                    stop = min(j + panel, width)
                    while j < stop:
                        vectors = -(-(stop - j) // LANES)
                        vectors = vectors if vectors * LANES == panel else min(vectors, base)
                        lanes = min(LANES, stop - j - (vectors - 1) * LANES)
                        at_a, row = from_a, top
                        for count, height in ((border - first, low + 1), (last - border, low)):
                            a_tile = ROWS * steps if packs_a else height * a_row
                            if count > 0:
                                strip(
                                    steps, at_a, 1 if packs_a else a_row, ROWS if packs_a else a_step, a_tile,
                                    from_b, step_b, c + (row * c_row + left + j) * ITEM, c_row,
                                    lanes, flags, bias + (left + j) * ITEM, count, height, vectors,
                                    ITEM, LANES, SUMS, ROWS, WIDEST,
                                )  # fmt: skip
                            at_a += count * a_tile * ITEM
                            row += count * height
                        j += vectors * LANES
                        from_b += vectors * LANES * ITEM
