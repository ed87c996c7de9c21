"""The loops around the micro-kernel, in numba's subset: blocks that stay in cache, and the packing that feeds them.

The order of the loops and the sizes of the blocks change no bit, because a block of k goes on with the sums that the one
before it left in C.
"""

from __future__ import annotations

from typing import Any

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


def multiply(a: Any, b: Any, c: Any, bias: Any, room: Any) -> None:
    """c = a @ b + bias for a (rows, inner), b (inner, columns), c (rows, columns) whose rows are contiguous.

    `bias` is (columns,), or empty. `room` is scratch of at least `scratch_size` elements.
    """
    rows, inner = a.shape
    columns = b.shape[1]
    if rows == 0 or columns == 0:
        return
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
