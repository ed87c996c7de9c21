"""np.einsum: every form of subscripts is rewritten to one, in which the derivative is an einsum again.

`parse` brings a call to the explicit form with one letter for each axis, including the axes under an ellipsis. The sum is
linear in every operand, so the cotangent of operand i is

    einsum(subscripts of g and of all other operands -> subscripts of operand i),

with three repairs, each of which adds one operand:

* A letter that repeats in operand i (a diagonal): later occurrences get fresh letters, tied to it by an identity matrix.
* A letter that is in no other operand and not in the result (summed over on its own): a vector of ones.
* A letter whose size is 1 in all other operands (NumPy broadcasts it): a vector of ones as well.

If an axis of operand i has size 1 and was broadcast, its cotangent has the large size, and the engine sums it.
"""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.arguments import operand, refuse, value
from allgrad.numpy.dispatch import implements

if TYPE_CHECKING:
    from collections.abc import Sequence

WORTH_A_PATH = 1 << 16
"""The number of multiplications above which `optimize=True` pays: it looks for GEMMs and costs 20 us of Python."""


def parse(args: Sequence[Any]) -> tuple[list[str], str, list[Any]]:
    """The letters of each operand, the letters of the result, and the operands, for a call in any of einsum's forms."""
    if isinstance(args[0], str):
        inputs, arrow, output = args[0].replace(" ", "").partition("->")
        terms, operands = inputs.split(","), [operand(x) for x in args[1:]]
        result = output if arrow else None
    else:
        operands = [operand(x) for x in args[:-1:2]] if len(args) % 2 else [operand(x) for x in args[::2]]
        terms = [_letters(x) for x in args[1::2]]
        result = _letters(args[-1]) if len(args) % 2 else None
    if len(terms) != len(operands):
        raise ValueError(f"np.einsum: the subscripts name {len(terms)} operands, but {len(operands)} were given.")
    return _without_ellipsis(terms, result, operands)


def _letters(sublist: Any) -> str:
    return "".join("..." if i is Ellipsis else string.ascii_letters[i] for i in sublist)


def _without_ellipsis(terms: list[str], result: str | None, operands: list[Any]) -> tuple[list[str], str, list[Any]]:
    hidden = [x.ndim - len(t.replace("...", "")) if "..." in t else 0 for t, x in zip(terms, operands, strict=True)]
    for term, x, count in zip(terms, operands, hidden, strict=True):
        if count < 0 or ("..." not in term and len(term) != x.ndim):
            raise ValueError(f"np.einsum: the subscripts {term!r} do not fit an operand of shape {x.shape}.")
    named = "".join(terms).replace("...", "")
    fresh = [c for c in string.ascii_letters if c not in named + (result or "")]
    if len(fresh) < max(hidden):
        raise ValueError("np.einsum: more than 52 different axes.")
    if result is not None and "..." not in result and max(hidden):
        raise ValueError(f"np.einsum: the axes under an ellipsis must be in the result, which is {result!r}.")
    spare = "".join(fresh[: max(hidden)])
    full = [t.replace("...", spare[len(spare) - n :]) for t, n in zip(terms, hidden, strict=True)]
    if result is None:
        result = spare + "".join(sorted(c for c in set(named) if named.count(c) == 1))
    else:
        result = result.replace("...", spare)
    return full, result, operands


def contract(terms: Sequence[str], result: str, operands: Sequence[Any], optimize: Any = False) -> Any:
    """np.einsum in the explicit form; large contractions look for GEMMs."""
    if not optimize and len(operands) > 1:
        sizes = {c: n for t, x in zip(terms, operands, strict=True) for c, n in zip(t, x.shape, strict=True)}
        optimize = math.prod(sizes.values()) >= WORTH_A_PATH
    return np.einsum(f"{','.join(terms)}->{result}", *operands, optimize=optimize)


def _value(*operands: Any, terms: tuple[str, ...], result: str, optimize: Any) -> Any:
    return np.einsum(f"{','.join(terms)}->{result}", *operands, optimize=optimize)


def _pull(
    g: Any, *operands: Any, terms: tuple[str, ...], result: str, optimize: Any, needs: tuple[bool, ...]
) -> list[Any]:  # fmt: skip
    del optimize  # a path given by hand is for the forward contraction
    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for c, n in zip(term, x.shape, strict=True):
            if n != 1 or c not in sizes:
                sizes[c] = n
    return [_one(g, operands, terms, result, i, sizes) if need else None for i, need in enumerate(needs)]


def _one(
    g: Any, operands: Sequence[Any], terms: Sequence[str], result: str, i: int, sizes: dict[str, int]
) -> Any:  # fmt: skip
    """The cotangent of operand i; see the top of the file."""
    others = [(result, g)] + [(t, x) for k, (t, x) in enumerate(zip(terms, operands, strict=True)) if k != i]
    present = {c for t, x in others for c, n in zip(t, x.shape, strict=True) if n == sizes[c]}
    fresh = (c for c in string.ascii_letters if c not in result and not any(c in t for t in terms))
    target = ""
    for c, n in zip(terms[i], operands[i].shape, strict=True):
        if c in target:
            twin = next(fresh)
            others.append((c + twin, np.eye(n, dtype=g.dtype)))
            target += twin
            continue
        if c not in present and n == sizes[c]:
            others.append((c, np.ones(n, g.dtype)))
        target += c
    return contract([t for t, _ in others], target, [x for _, x in others])


_einsum = Primitive(_value, name="einsum", arguments=(), joint=_pull, jvp=LINEAR, views=True)


@implements(np.einsum)
def einsum(*operands: Any, out: Any = None, optimize: Any = False, **keywords: Any) -> Any:
    refuse("np.einsum", out=out, **keywords)
    operands = tuple(x if getattr(x, "dtype", None) is None or x.dtype.kind in "fc" else value(x) for x in operands)
    terms, result, arrays = parse(operands)
    return _einsum(*arrays, terms=tuple(terms), result=result, optimize=optimize)
