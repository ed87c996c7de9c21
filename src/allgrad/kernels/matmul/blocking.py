"""The loops around the micro-kernel, in numba's subset: blocks that stay in cache, and the packing that feeds them.

The order of the loops and the sizes of the blocks change no bit, because each block of k starts from the sums that the
previous block left in C.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from allgrad.kernels.matmul.ir import ADD_BIAS, ADD_TO_RESULT, address, pack, pack_panels, tile

DEPTH = 256
"""Steps of k per block: a panel of B of this depth fills half of a first-level cache."""
BLOCK_ROWS = 192
"""Rows of A per block: with `DEPTH` columns they fill a part of the second-level cache."""
BLOCK_COLUMNS = 2048
"""Columns of B that are packed at a time."""
CACHE = 1 << 18
"""Bytes of packed B that stay in the second-level cache."""
UNPACKED_ROWS = 36
"""With at most this many rows a panel of B is used too few times to be worth a copy."""

DONE, COPY, ROOM, MISMATCH = 0, 1, 2, 3
"""What `multiply` answers. Unless it is DONE, nothing was written, because: c may overlap an argument, its rows are not
contiguous, or a stride is no multiple of the element size; the scratch is too small; shapes do not fit.
"""

# What depends on the tile and the dtype is put in by `product.Product`, which compiles these functions for both.
ITEM = LANES = ROWS = SUMS = WIDEST = 0


@register_jitable
def scratch_size(rows: Any, inner: Any, columns: Any, lanes: Any) -> Any:
    """Elements of scratch that `multiply` needs."""
    return (min(rows, BLOCK_ROWS) + 16 + min(columns, BLOCK_COLUMNS) + 8 * lanes) * min(inner, DEPTH) + 2 * lanes


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


def multiply_batches(a: Any, b: Any, c: Any, bias: Any, room: Any) -> Any:
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
            answer = multiply(a_, b_, c[i, j], bias, room, False)
            if answer != DONE:
                return answer
    return DONE


def multiply(a: Any, b: Any, c: Any, bias: Any, room: Any, adds: Any) -> Any:
    """c = a @ b + bias for a (rows, inner), b (inner, columns), c (rows, columns); `DONE`, or why not.

    If it `adds`, each sum starts from what c holds. `bias` is (columns,), or empty. `room` is scratch of at least
    `scratch_size` elements.
    """
    rows, inner = a.shape
    columns = b.shape[1]
    if b.shape[0] != inner or c.shape != (rows, columns) or (bias.size and bias.size != columns):
        return MISMATCH
    if rows == 0 or columns == 0:
        return DONE
    if not fits(a, b, c, bias):
        return COPY
    if room.size < scratch_size(rows, inner, columns, LANES):
        return ROOM
    a_row, a_step = a.strides[0] // ITEM, a.strides[1] // ITEM
    b_step, b_column = b.strides[0] // ITEM, b.strides[1] // ITEM
    c_row = c.strides[0] // ITEM
    tiles = -(-rows // ROWS)  # of nearly equal height
    panel = min(SUMS // -(-rows // tiles), WIDEST, -(-columns // LANES)) * LANES
    blocks = max(1, -(-inner // DEPTH))
    depth = -(-inner // blocks)
    block_columns = min(BLOCK_COLUMNS // panel * panel, -(-columns // panel) * panel)
    # A row of tiles goes along all of packed B if that stays in the second-level cache; if not, many rows share each panel.
    in_block = 1 if depth * block_columns * ITEM <= CACHE else max(1, BLOCK_ROWS // ROWS)
    packs_a = a_row == 1 and a_step != 1 and columns > panel
    packs_b = b_column != 1 or rows > UNPACKED_ROWS
    room_a = address(room)
    room_b = room_a + (min(in_block, tiles) * ROWS * depth + LANES) * ITEM
    for left in range(0, columns, block_columns):
        width = min(block_columns, columns - left)
        # Columns from here on are packed. Without packing that is a last panel that does not end with a whole vector.
        packed = 0 if packs_b else width if width % LANES == 0 else (width - 1) // panel * panel
        for block in range(blocks):
            k = block * depth
            steps = min(depth, inner - k)
            flags = (ADD_TO_RESULT if adds or block > 0 else 0) | (ADD_BIAS if block == blocks - 1 and bias.size else 0)
            here_b = address(b) + (k * b_step + left * b_column) * ITEM
            pack_b(steps, packed, width, here_b, b_step, b_column, room_b, panel)
            for first in range(0, tiles, in_block):
                last = min(first + in_block, tiles)
                if packs_a:
                    pack_a(steps, first, last, tiles, rows, address(a) + k * a_step * ITEM, a_step, room_a)
                for j in range(0, width, panel):
                    vectors = min(panel // LANES, -(-(width - j) // LANES))
                    lanes = min(LANES, width - j - (vectors - 1) * LANES)
                    from_b, step_b = here_b + j * ITEM, b_step
                    if j >= packed:
                        from_b, step_b = room_b + (j - packed) * steps * ITEM, panel
                    for t in range(first, last):
                        top = t * rows // tiles
                        high = (t + 1) * rows // tiles - top
                        from_a, row_a, step_a = address(a) + (top * a_row + k * a_step) * ITEM, a_row, a_step
                        if packs_a:
                            from_a, row_a, step_a = room_a + (t - first) * ROWS * steps * ITEM, 1, ROWS
                        tile(
                            steps, from_a, row_a, step_a, from_b, step_b, address(c) + (top * c_row + left + j) * ITEM, c_row,
                            lanes, flags, address(bias) + (left + j) * ITEM, high, vectors, ITEM, LANES, SUMS, ROWS, WIDEST,
                        )  # fmt: skip
    return DONE


def pack_a(steps: Any, first: Any, last: Any, tiles: Any, rows: Any, source: Any, step: Any, room: Any) -> None:
    """Rows of tiles `first` to `last` of A, whose columns are contiguous, each as (steps, ROWS)."""
    for t in range(first, last):
        top = t * rows // tiles
        high = (t + 1) * rows // tiles - top
        pack(steps, high, source + top * ITEM, step, 1, room + (t - first) * ROWS * steps * ITEM, ROWS, ITEM, LANES)


def pack_b(steps: Any, start: Any, stop: Any, source: Any, step: Any, column: Any, room: Any, panel: Any) -> None:
    """Columns `start` to `stop` of B in panels, each (steps, panel)."""
    if column == 1:
        pack_panels(steps, stop - start, source + start * ITEM, step, room, panel, ITEM, LANES)
        return
    for j in range(start, stop, panel):
        width = min(panel, stop - j)
        target = room + (j - start) * steps * ITEM
        pack(steps, width, source + j * column * ITEM, step, column, target, panel, ITEM, LANES)
