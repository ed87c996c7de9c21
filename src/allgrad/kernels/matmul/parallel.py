"""A product that is cut among threads, all in compiled code: `multiply_objects` for more than one thread.

C is cut where less is packed twice: every thread packs the whole of B for its rows, or the whole of A for its columns.
"""

from __future__ import annotations

from typing import Any

from allgrad.kernels.helpers import HELPERS, share
from allgrad.kernels.jit import callee
from allgrad.kernels.matmul.arrays import address_of, ndim, size, word, write_word
from allgrad.kernels.matmul.blocking import (
    CORE,
    DONE,
    ELEMENT,
    FIELDS,
    ROOM,
    ROOM_ADDRESS,
    ROOM_SIZE,
    check,
    multiply_stack,
    numbers_of,
    scratch_size,
)
from allgrad.kernels.matmul.llvm import call
from allgrad.kernels.waiting import load

LEAST = 1 << 19
"""Multiplications per thread that pay for sharing a product (about 12 microseconds of work)."""
WITHOUT_HELPERS = 4
"""What `multiply_objects_in_threads` answers, beside what `multiply_objects` does: it is done, but helpers should be started."""

COUNT, ROW_STEP, COLUMN_STEP, CONTROL, RUN_PART, PARTS, TALL, NUMBERS = (FIELDS + 8 * n for n in range(8))
"""Fields of the settings behind those of `multiply_objects`: how many threads; rows and columns that belong together; the address
of the control block (`helpers.py`) and of the compiled `run_part`; and of a product that is under way: the number of its parts,
whether rows are cut, and the 17 numbers of `product`.
"""
FIELDS_IN_THREADS = NUMBERS + 17 * 8


def multiply_objects_in_threads(settings: Any, a: Any, b: Any, c: Any, bias: Any) -> Any:
    """`multiply_objects`, with the helpers of this process if it is worth it."""
    return _of_objects(settings, address_of(a), address_of(b), address_of(c), address_of(bias))


@callee
def _of_objects(settings: Any, a: Any, b: Any, c: Any, bias: Any) -> Any:
    answer = check(settings, a, b, c, bias)
    if answer != DONE or size(c) == 0:
        return answer
    if ndim(c) == 2:
        numbers = numbers_of(settings, a, b, c, bias, 0, 0, 0)
        rows, inner, columns = numbers[:3]
        tall = rows >= columns
        length, step = (rows, word(settings + ROW_STEP)) if tall else (columns, word(settings + COLUMN_STEP))
        parts = min(word(settings + COUNT), rows * inner * columns // LEAST, -(-length // step))
        if parts > 1:
            if word(settings + ROOM_SIZE) < parts * scratch_size(inner, columns):
                return ROOM
            write_word(settings + PARTS, parts)
            write_word(settings + TALL, 1 if tall else 0)
            for i in range(17):
                write_word(settings + NUMBERS + 8 * i, numbers[i])
            if share(word(settings + CONTROL), word(settings + RUN_PART), settings, parts):
                return DONE
            if load(word(settings + CONTROL) + HELPERS) == 0:
                answer = WITHOUT_HELPERS
    multiply_stack(settings, a, b, c, bias)
    return answer


def run_part(settings: Any, part: Any, seat: Any) -> None:
    """One part of the product that is under way, with the scratch of that seat."""
    at, item = settings + NUMBERS, word(settings + ELEMENT)
    rows, inner, columns, a, a_row = word(at), word(at + 8), word(at + 16), word(at + 24), word(at + 32)
    b, b_column, c, c_row, bias = word(at + 48), word(at + 64), word(at + 72), word(at + 80), word(at + 88)
    room = word(settings + ROOM_ADDRESS) + seat * scratch_size(inner, columns) * item
    parts, tall = word(settings + PARTS), word(settings + TALL)
    length, step = (rows, word(settings + ROW_STEP)) if tall else (columns, word(settings + COLUMN_STEP))
    blocks = -(-length // step)
    first = blocks * part // parts * step
    length = min(length, blocks * (part + 1) // parts * step) - first
    if tall:
        rows, a, c = length, a + first * a_row * item, c + first * c_row * item
    else:
        columns, b, c = length, b + first * b_column * item, c + first * item
        bias = bias + first * item if bias else 0
    numbers = (
        rows, inner, columns, a, a_row, word(at + 40), b, word(at + 56), b_column, c, c_row, bias, 0, room, 0, 0, 0
    )  # fmt: skip
    call(word(settings + CORE), numbers)
