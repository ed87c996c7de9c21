"""Sparse matrices in products and systems with Tensors.

Importing `allgrad.scipy.sparse` teaches SciPy's sparse arrays and matrices that `A @ t` and `t @ A` belong to the Tensor t: their
`__matmul__` would otherwise convert it to a plain array, which a tracked Tensor refuses. Nothing changes for other operands.
A is a constant in them.

A matrix whose entries are differentiated is a `SparseTensor`: `coo_array((data, (rows, columns)), shape)` and
`csr_array((data, indices, indptr), shape)` with a Tensor for data, and `diags_array` with Tensors for diagonals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as _scipy_sparse

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.autodiff.tensor import RULES, Tensor
from allgrad.numpy.dispatch import implements
from allgrad.scipy.registry import TABLE, Row, operand, tracked

if TYPE_CHECKING:
    from collections.abc import Callable


class Pattern:
    """Where the entries of a sparse matrix are: entry k is in row rows[k] and column columns[k]."""

    def __init__(self, rows: Any, columns: Any, shape: tuple[int, int]) -> None:
        self.rows, self.columns, self.shape = np.asarray(rows), np.asarray(columns), shape

    @property
    def transposed(self) -> Pattern:
        return Pattern(self.columns, self.rows, (self.shape[1], self.shape[0]))

    def matrix(self, data: Any) -> Any:
        return _scipy_sparse.csr_array((data, (self.rows, self.columns)), shape=self.shape)


def _by_data(g: Any, x: Any, pattern: Pattern) -> Any:
    """The entries of g x^T in the pattern; g: (rows, k), x: (columns, k)."""
    return np.sum(g[pattern.rows] * x[pattern.columns], axis=-1)


multiply: Primitive = Primitive(
    lambda data, x, *, pattern: pattern.matrix(data) @ x,
    name="sparse matmul",
    vjp={
        "data": lambda g, x, *, pattern: _by_data(g, x, pattern),
        "x": lambda g, data, *, pattern: multiply(data, g, pattern=pattern.transposed),
    },
    jvp={"data": LINEAR, "x": LINEAR},
)
"""A x for data: (entries,) and x: (columns, k)."""


def product(data: Any, pattern: Pattern, x: Any) -> Any:
    """A x for a vector or a matrix x."""
    x = operand(x)
    if x.ndim not in (1, 2) or x.shape[0] != pattern.shape[1]:
        raise ValueError(f"a sparse matrix of {pattern.shape} cannot multiply an array of shape {x.shape}.")
    if x.ndim == 1:
        return multiply(data, np.expand_dims(x, 1), pattern=pattern)[:, 0]
    return multiply(data, x, pattern=pattern)


def entries(A: Any) -> tuple[Any, Pattern]:
    """The data and the pattern of a sparse matrix, ours or SciPy's."""
    if isinstance(A, SparseTensor):
        return A.data, A.pattern
    coo = _scipy_sparse.coo_array(A)
    rows, columns = coo.coords
    return coo.data, Pattern(rows, columns, coo.shape)


class SparseTensor:
    """A sparse matrix with a Tensor of entries: it multiplies arrays and Tensors, and `spsolve` takes it.

    Args:
        data: (entries,) float; entries at the same place are added.
        pattern: where they are.
    """

    __array_ufunc__ = None  # NumPy arrays leave `a @ A` to us
    __array_priority__ = 2000.0

    def __init__(self, data: Any, pattern: Pattern) -> None:
        self.data, self.pattern = operand(data), pattern

    @property
    def shape(self) -> tuple[int, int]:
        return self.pattern.shape

    @property
    def T(self) -> SparseTensor:
        return SparseTensor(self.data, self.pattern.transposed)

    def __matmul__(self, x: Any) -> Any:
        return product(self.data, self.pattern, x)

    def __rmatmul__(self, x: Any) -> Any:
        return np.swapaxes(product(self.data, self.pattern.transposed, np.swapaxes(operand(x), 0, -1)), 0, -1)

    def __mul__(self, number: Any) -> SparseTensor:
        return SparseTensor(self.data * number, self.pattern)

    __rmul__ = __mul__

    def __neg__(self) -> SparseTensor:
        return SparseTensor(-self.data, self.pattern)

    def __add__(self, other: Any) -> SparseTensor:
        data, pattern = entries(other)
        if pattern.shape != self.shape:
            raise ValueError(f"sparse matrices of {self.shape} and {pattern.shape} cannot be added.")
        rows = np.concatenate([self.pattern.rows, pattern.rows])
        columns = np.concatenate([self.pattern.columns, pattern.columns])
        return SparseTensor(np.concatenate([self.data, data]), Pattern(rows, columns, self.shape))

    __radd__ = __add__

    def __sub__(self, other: Any) -> SparseTensor:
        return self.__add__(-other)

    def toarray(self) -> Any:
        """The dense matrix, on the tape."""
        return self @ np.eye(self.shape[1], dtype=self.data.dtype)

    def tocsc(self) -> SparseTensor:
        """The matrix itself: it has no storage format, and code for SciPy's matrices may ask for one."""
        return self

    tocsr = tocoo = tocsc

    def __repr__(self) -> str:
        return f"SparseTensor(shape={self.shape}, entries={self.data.shape[0]})"


# Constructors.


def coo_array(arg: Any, shape: Any = None, **keywords: Any) -> Any:
    """`scipy.sparse.coo_array`; a SparseTensor for (data, (rows, columns)) with a Tensor for data."""
    if not tracked(arg):
        return _scipy_sparse.coo_array(arg, shape, **keywords)
    data, (rows, columns) = arg
    return SparseTensor(data, Pattern(rows, columns, shape or (np.max(rows) + 1, np.max(columns) + 1)))


def csr_array(arg: Any, shape: Any = None, **keywords: Any) -> Any:
    """`scipy.sparse.csr_array`; a SparseTensor for (data, indices, indptr) or (data, (rows, columns)) with a Tensor for data."""
    if not tracked(arg):
        return _scipy_sparse.csr_array(arg, shape, **keywords)
    if len(arg) == 2:
        return coo_array(arg, shape)
    data, indices, indptr = arg
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return SparseTensor(data, Pattern(rows, indices, shape or (len(indptr) - 1, np.max(indices) + 1)))


def diags_array(diagonals: Any, *, offsets: Any = 0, shape: Any = None, **keywords: Any) -> Any:
    """`scipy.sparse.diags_array`; a SparseTensor where a diagonal is a Tensor."""
    if not tracked(diagonals):
        return _scipy_sparse.diags_array(diagonals, offsets=offsets, shape=shape, **keywords)
    if np.ndim(offsets) == 0:
        offsets = [offsets]
        diagonals = [diagonals] if not isinstance(diagonals, (list, tuple)) else diagonals
    lines = [operand(d) for d in diagonals]
    if shape is None:
        n = lines[0].shape[0] + abs(offsets[0])
        shape = (n, n)
    data, rows, columns = [], [], []
    for line, k in zip(lines, offsets, strict=True):
        length = min(shape[0] + min(k, 0), shape[1] - max(k, 0))
        data.append(line * np.ones(length, dtype=line.dtype) if line.shape in ((), (1,)) else line)
        if data[-1].shape != (length,):
            raise ValueError(f"the diagonal {k} of a matrix of {shape} has {length} entries, got {line.shape}.")
        rows.append(np.arange(length) - min(k, 0))
        columns.append(np.arange(length) + max(k, 0))
    return SparseTensor(np.concatenate(data), Pattern(np.concatenate(rows), np.concatenate(columns), shape))


# SciPy's operators.


def _hand_over(method: Callable[..., Any], reflected: bool) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        if not isinstance(other, Tensor):
            return method(self, other)
        made = SparseTensor(*entries(self))
        return other @ made if reflected else made @ other

    operator.__name__, operator.__doc__ = method.__name__, method.__doc__
    return operator


def _teach_scipy() -> None:
    """Let the products of SciPy's sparse classes leave Tensors to us."""
    classes = [c for c in vars(_scipy_sparse).values() if isinstance(c, type)]
    for cls in {base for c in classes for base in c.__mro__ if base is not object}:
        for name in ("__matmul__", "__rmatmul__"):
            if name in vars(cls):
                setattr(cls, name, _hand_over(vars(cls)[name], reflected=name == "__rmatmul__"))
    dense = RULES[np.matmul]

    def matmul(x: Any, y: Any, /, **keywords: Any) -> Any:
        if isinstance(y, SparseTensor):
            return y.__rmatmul__(x)
        if _scipy_sparse.issparse(y):
            return SparseTensor(*entries(y)).__rmatmul__(x)
        return dense(x, y, **keywords)

    implements(np.matmul)(matmul)


_teach_scipy()
for _name in ("coo_array", "csr_array", "diags_array", "matmul"):
    TABLE.add(Row(_name, "sparse", "differentiated"))
