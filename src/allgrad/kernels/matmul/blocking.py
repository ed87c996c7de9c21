"""The loops around the micro-kernel, in numba's subset: blocks that stay in cache, and the packing that feeds them.

The order of the loops and the sizes of the blocks change no bit, because a block of k goes on with the sums that the one
before it left in C.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from allgrad.kernels.matmul.ir import ADD_BIAS, ADD_TO_RESULT, address, pack, tile

DEPTH = 256
"""Steps of k per block: a panel of B of this depth fills half of a first-level cache."""
BLOCK_ROWS = 192
"""Rows of A per block: with `DEPTH` columns they fill a part of the second-level cache."""
BLOCK_COLUMNS = 2048
"""Columns of B that are packed at a time."""
UNPACKED_ROWS = 24
"""With at most this many rows a panel of B is used too few times to be worth a copy."""

# Of the tile and the dtype; `PerDtype` replaces them (see `tiles.Tile.constants`).
ITEM = LANES = ROWS = SUMS = WIDEST = 0


def scratch_size(rows: int, inner: int, columns: int, lanes: int) -> int:
    """Elements of scratch that `multiply` needs."""
    depth = min(inner, DEPTH)
    wide = min(columns, BLOCK_COLUMNS) + 8 * lanes
    return (min(rows, BLOCK_ROWS) + 16 + wide) * depth + lanes


@register_jitable
def ends(x: Any) -> Any:
    """The addresses of the first and of the last element of a matrix that is not empty."""
    low = high = address(x)
    for axis in range(2):
        reach = (x.shape[axis] - 1) * x.strides[axis]
        if reach < 0:
            low += reach
        else:
            high += reach
    return low, high


@register_jitable
def fits(a: Any, b: Any, c: Any, bias: Any) -> bool:
    """Whether `multiply` can work with these arrays as they are."""
    item = c.itemsize
    for axis in range(2):
        if a.strides[axis] % item or b.strides[axis] % item or c.strides[axis] % item:
            return False
    if c.shape[1] > 1 and c.strides[1] != item:
        return False
    low, high = ends(c)
    if bias.size and low < address(bias) + bias.size * item and address(bias) <= high:
        return False
    if a.shape[1] == 0:
        return True
    low_a, high_a = ends(a)
    low_b, high_b = ends(b)
    return (high < low_a or high_a < low) and (high < low_b or high_b < low)


def multiply_batches(a: Any, b: Any, c: Any, bias: Any, room: Any) -> bool:
    """`multiply` for each index of the first two axes."""
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            if not multiply(a[i, j], b[i, j], c[i, j], bias, room):
                return False
    return True


def multiply(a: Any, b: Any, c: Any, bias: Any, room: Any) -> bool:
    """c = a @ b + bias for a (rows, inner), b (inner, columns), c (rows, columns).

    `bias` is (columns,), or empty. `room` is scratch of at least `scratch_size` elements. False, and nothing is written, if c
    may overlap an argument, if its rows are not contiguous, or if a stride is no multiple of the element size.
    """
    rows, inner = a.shape
    columns = b.shape[1]
    if rows == 0 or columns == 0:
        return True
    if not fits(a, b, c, bias):
        return False
    a_row, a_step = a.strides[0] // ITEM, a.strides[1] // ITEM
    b_step, b_column = b.strides[0] // ITEM, b.strides[1] // ITEM
    c_row = c.strides[0] // ITEM
    tiles = -(-rows // ROWS)
    height = -(-rows // tiles)
    panel = min(SUMS // height, WIDEST) * LANES
    parts = max(1, -(-inner // DEPTH))
    depth = -(-inner // parts)
    in_block = max(1, BLOCK_ROWS // ROWS)
    packs_a = a_row == 1 and a_step != 1 and columns > panel
    packs_b = b_column != 1 or rows > UNPACKED_ROWS
    room_a = address(room)
    room_b = room_a + (min(in_block, tiles) * ROWS * depth + LANES) * ITEM
    block_columns = BLOCK_COLUMNS // panel * panel
    for j_block in range(0, columns, block_columns):
        j_end = min(j_block + block_columns, columns)
        for k in range(0, max(1, inner), max(1, depth)):
            steps = min(depth, inner - k)
            flags = ADD_TO_RESULT if k > 0 else 0
            if k + steps == inner and bias.size:
                flags |= ADD_BIAS
            for t_block in range(0, tiles, in_block):
                t_end = min(t_block + in_block, tiles)
                if packs_a:
                    for t in range(t_block, t_end):
                        top = t * rows // tiles
                        pack(
                            steps, (t + 1) * rows // tiles - top, address(a) + (k * a_step + top * a_row) * ITEM, a_step, a_row,
                            room_a + (t - t_block) * ROWS * steps * ITEM, ROWS, ITEM, LANES,
                        )  # fmt: skip
                for j in range(j_block, j_end, panel):
                    width = min(panel, j_end - j)
                    vectors = -(-width // LANES)
                    lanes = width - (vectors - 1) * LANES
                    from_b, step_b = address(b) + (k * b_step + j * b_column) * ITEM, b_step
                    if packs_b or lanes < LANES:
                        to, step = room_b + (j - j_block) * steps * ITEM, vectors * LANES
                        if t_block == 0:
                            pack(steps, width, from_b, b_step, b_column, to, step, ITEM, LANES)
                        from_b, step_b = to, step
                    for t in range(t_block, t_end):
                        top = t * rows // tiles
                        high = (t + 1) * rows // tiles - top
                        if packs_a:
                            from_a, row_a, step_a = room_a + (t - t_block) * ROWS * steps * ITEM, 1, ROWS
                        else:
                            from_a, row_a, step_a = address(a) + (top * a_row + k * a_step) * ITEM, a_row, a_step
                        tile(
                            steps, from_a, row_a, step_a, from_b, step_b, address(c) + (top * c_row + j) * ITEM, c_row,
                            lanes, flags, address(bias) + j * ITEM, high, vectors, ITEM, LANES, SUMS, ROWS, WIDEST,
                        )  # fmt: skip
    return True
