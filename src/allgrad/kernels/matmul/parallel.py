"""A product that is cut among threads, all in compiled code. It takes the place of `blocking.product` where there are helpers.

C is cut where less is packed twice: every thread packs the whole of B for its rows, or the whole of A for its columns.
"""

from __future__ import annotations

from typing import Any

from allgrad.kernels.helpers import share
from allgrad.kernels.matmul.arrays import word, write_word
from allgrad.kernels.matmul.llvm import call

LEAST = 1 << 19
"""Multiplications per thread that pay for sharing a product (about 12 microseconds of work)."""

CORE, SCRATCH, SEAT, COUNT, CONTROL, RUN_PART, PARTS, TALL, NUMBERS = range(0, 72, 8)
"""Fields of the table of a thread's products: the address of the compiled `blocking.product`; of scratch, and how many bytes of
that each seat has; how many threads there are; the addresses of the control block (`helpers.py`) and of the compiled `run_part`;
and of a product that is under way: the number of its parts, whether rows are cut, and the numbers of `blocking.product`.
"""
FIELDS = NUMBERS // 8 + 17

# What depends on the tile and the dtype is put in by `product.Product`, which compiles these functions for both.
ITEM = ROWS = PANEL = 0


def product_in_threads(
    rows: Any, inner: Any, columns: Any, a: Any, a_row: Any, a_step: Any, b: Any, b_step: Any, b_column: Any, c: Any,
    c_row: Any, bias: Any, adds: Any, table: Any, segments: Any, count: Any, pitch: Any,
) -> None:  # fmt: skip
    """`blocking.product`, with the helpers of this process if that pays. `table` is the address of the table above."""
    tall = rows >= columns
    blocks = -(-rows // ROWS) if tall else -(-columns // PANEL)
    parts = min(word(table + COUNT), rows * inner * columns // LEAST, blocks)
    numbers = (
        rows, inner, columns, a, a_row, a_step, b, b_step, b_column, c, c_row, bias, adds, word(table + SCRATCH), segments,
        count, pitch,
    )  # fmt: skip
    if parts > 1:
        write_word(table + PARTS, parts)
        write_word(table + TALL, 1 if tall else 0)
        for i in range(17):
            write_word(table + NUMBERS + 8 * i, numbers[i])
        if share(word(table + CONTROL), word(table + RUN_PART), table, parts):
            return
    call(word(table + CORE), numbers)


def run_part(table: Any, part: Any, seat: Any) -> None:
    """One part of the product that is under way, with the scratch of that seat."""
    at, parts, tall = table + NUMBERS, word(table + PARTS), word(table + TALL)
    rows, inner, columns, a, a_row = word(at), word(at + 8), word(at + 16), word(at + 24), word(at + 32)
    b, b_column, c, c_row, bias = word(at + 48), word(at + 64), word(at + 72), word(at + 80), word(at + 88)
    length, step = (rows, ROWS) if tall else (columns, PANEL)
    blocks = -(-length // step)
    first = blocks * part // parts * step
    length = min(length, blocks * (part + 1) // parts * step) - first
    if tall:
        rows, a, c = length, a + first * a_row * ITEM, c + first * c_row * ITEM
    else:
        columns, b, c = length, b + first * b_column * ITEM, c + first * ITEM
        bias = bias + first * ITEM if bias else 0
    numbers = (
        rows, inner, columns, a, a_row, word(at + 40), b, word(at + 56), b_column, c, c_row, bias, word(at + 96),
        word(table + SCRATCH) + seat * word(table + SEAT), 0, 0, 0,
    )  # fmt: skip
    call(word(table + CORE), numbers)
