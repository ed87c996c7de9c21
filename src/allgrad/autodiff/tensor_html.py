"""A Tensor as a notebook shows it: what it is, and its values as a table where they fit."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

__all__ = ["tensor_html"]

_MOST = 10  # rows and columns


def tensor_html(value: np.ndarray[Any, Any], description: str) -> str:
    """A heading and the values; of a large array, the first rows and columns.

    Args:
        value: of any shape and dtype.
        description: what else the heading says.

    Example:
        >>> print(tensor_html(np.ones(2), "requires_grad"))
        <div><b>Tensor</b> (2,) float64, requires_grad</div><table><tr><td>1</td><td>1</td></tr></table>
    """
    words = ", ".join(part for part in (f"{value.shape} {value.dtype}", description) if part)
    head = f"<div><b>Tensor</b> {html.escape(words)}</div>"
    if value.ndim not in (1, 2):
        with np.printoptions(threshold=50, edgeitems=2, precision=4):
            return f"{head}<pre>{html.escape(str(value))}</pre>"
    rows = np.atleast_2d(value)
    body = "".join(_row(row) for row in rows[:_MOST])
    more = "<tr><td>⋮</td></tr>" if len(rows) > _MOST else ""
    return f"{head}<table>{body}{more}</table>"


def _row(values: np.ndarray[Any, Any]) -> str:
    cells = [f"{value:.5g}" if value.dtype.kind in "fc" else str(value) for value in values[:_MOST]]
    if len(values) > _MOST:
        cells.append("⋯")
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
