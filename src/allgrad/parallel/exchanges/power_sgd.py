"""PowerSGD: the gradient of a matrix is sent as the product of two thin ones.

Algorithm 1 of the paper, for each matrix M = g + e (n x m) of a sender, and Q (m x r) of the step before:

    P = sum over senders of M Q          (all-reduce of n r numbers)
    P = orthogonal(P)                    (Gram-Schmidt, columns in order)
    Q = sum over senders of M^T P        (all-reduce of m r numbers)
    gradient = P Q^T,   e = M - P Q^T / senders

The first Q has independent normal entries. Vectors, and matrices that this would not make smaller, are sent as they are. The
matrix of a parameter has its last axis as columns. Gradients here are sums over the senders, where the paper has means: the
error is the paper's divided by the number of senders, and the sum of all errors, on which all else depends, is the same.

The sums run over the fixed tree, and everything else is computed alike on every rank. So, `per: worker`, the bits do not
depend on the number of ranks.

Reference: Vogels, Karimireddy & Jaggi, "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization"
(NeurIPS 2019), arXiv 1905.13727, algorithms 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge

from allgrad import kernels
from allgrad.comm.all_reduce import bytes_sent
from allgrad.errors import OptionError
from allgrad.parallel.exchanges.error_feedback import ErrorFeedbackExchange, Per
from allgrad.parallel.exchanges.registry import register_exchange
from allgrad.parallel.exchanges.worker_sums import sum_over_workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allgrad.comm import Handle, Times, World
    from allgrad.memory import FlatParameters, Slot
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges.base import BucketGradients

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class _Posted:
    """A bucket under way, with the numbers that are summed over the senders: first P and what is sent as it is, then Q."""

    gradients: BucketGradients
    corrected: list[Array]
    sums: Array
    step: int
    handle: Handle | None


@register_exchange("power_sgd")
class PowerSGDExchange(ErrorFeedbackExchange):
    """Sends matrices as products of two thin ones.

    Args:
        rank: columns of the thin matrices.
        start_after: steps at the beginning in which gradients are sent as they are.
        per: who keeps errors: each virtual `worker` (same bits at any number of ranks) or each `rank` (less memory).
    """

    posted: list[_Posted]

    def __init__(
        self, *, rank: Annotated[int, Ge(1)] = 2, start_after: Annotated[int, Ge(0)] = 0, per: Per = "worker"
    ) -> None:
        for name, value, least in (("rank", rank, 1), ("start_after", start_after, 0)):
            if value < least:
                raise OptionError(f"{name} must be {least} or more. Got {value!r} instead.")
        super().__init__(per=per)
        self.rank, self.start_after = rank, start_after

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Called once, before the first step."""
        super().open(world, virtual_workers, flat, buckets)
        self.factors = {
            slot.name: _random_factor(number, self._matrix_shape(slot)[1], self.rank, slot.dtype)
            for number, slot in enumerate(flat.layout.slots)
            if self._is_compressed(slot)
        }

    def _matrix_shape(self, slot: Slot) -> tuple[int, int]:
        columns = slot.shape[-1] if slot.shape else 1
        return slot.size // max(columns, 1), columns

    def _is_compressed(self, slot: Slot) -> bool:
        rows, columns = self._matrix_shape(slot)
        return len(slot.shape) > 1 and self.rank * (rows + columns) < rows * columns

    def _matrices(self, gradients: BucketGradients) -> Iterator[tuple[Slot, slice, tuple[int, int]]]:
        for slot, span in self.slots(gradients.bucket):
            if self._is_compressed(slot):
                yield slot, span, self._matrix_shape(slot)

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Start the sum of P, and of all that is sent as it is."""
        if step < self.start_after:
            arrays = self.corrected(gradients)  # the errors are still zero
            out, posted = gradients.out, None
        else:
            corrected = self.corrected(gradients)
            arrays = [self._first_message(gradients, array) for array in corrected]
            out = arrays[0]
            posted = _Posted(gradients, corrected, out, step, None)
            self.posted.append(posted)
        guard = [*(array for *_, array in gradients.nodes), gradients.out, *gradients.views]
        handle = self._sum(gradients, arrays, out, step=step, name="", ready=ready, guard=guard)
        if handle is not None:
            self.handles.append(handle)
        if posted is not None:
            posted.handle = handle

    def _sum(
        self,
        gradients: BucketGradients,
        arrays: list[Array],
        out: Array,
        *,
        step: int,
        name: str,
        ready: float | None = None,
        guard: list[Array] | None = None,
    ) -> Handle | None:
        return sum_over_workers(
            self.world,
            self.sender_count,
            arrays,
            out,
            label=f"{gradients.bucket.label}{name}",
            step=step,
            layout=f"{gradients.layout} power_sgd {self.rank} {self.per}",
            ready=ready,
            guard=guard or (),
        )

    def _first_message(self, gradients: BucketGradients, values: Array) -> Array:
        """P of every matrix, and every other parameter, one after the other."""
        parts = []
        for slot, span in self.slots(gradients.bucket):
            if self._is_compressed(slot):
                matrix = values[span].reshape(self._matrix_shape(slot))
                parts.append(_product(matrix, self.factors[slot.name]).reshape(-1))
            else:
                parts.append(values[span])
        return np.concatenate(parts) if parts else np.empty(0, values.dtype)

    def finish(self) -> list[Times]:
        """Wait for P, sum Q, and write the gradients and the errors."""
        times = super().finish()
        posted, self.posted = self.posted, []
        bases = [self._orthogonal(each) for each in posted]
        seconds = []
        for each, basis in zip(posted, bases, strict=True):
            arrays = [self._second_message(each.gradients, array, basis) for array in each.corrected]
            handle = self._sum(each.gradients, arrays, arrays[0], step=each.step, name=" Q")
            seconds.append((arrays[0], handle))
        for _, handle in seconds:
            if handle is not None:
                handle.wait()
        finite = all(np.isfinite(a).all() for e, (q, _) in zip(posted, seconds, strict=True) for a in (e.sums, q))
        for each, basis, (second, _) in zip(posted, bases, seconds, strict=True):
            self._write(each, basis, second, finite=finite)
        return times

    def _orthogonal(self, posted: _Posted) -> dict[str, Array]:
        found, start = {}, 0
        for slot, _ in self.slots(posted.gradients.bucket):
            if self._is_compressed(slot):
                rows = self._matrix_shape(slot)[0]
                found[slot.name] = orthogonal(posted.sums[start : start + rows * self.rank].reshape(rows, self.rank))
                start += rows * self.rank
            else:
                start += slot.size
        return found

    def _second_message(self, gradients: BucketGradients, values: Array, bases: dict[str, Array]) -> Array:
        parts = [
            _product(values[span].reshape(shape).T, bases[slot.name]).reshape(-1)
            for slot, span, shape in self._matrices(gradients)
        ]
        return np.concatenate(parts) if parts else np.empty(0, values.dtype)

    def _write(self, posted: _Posted, bases: dict[str, Array], second: Array, *, finite: bool) -> None:
        """The gradients from their factors; if all sums of the step are finite, the errors and the new Q as well."""
        gradients, start, plain = posted.gradients, 0, 0
        errors = [gradients.bucket.of(self.errors[sender].flat) for sender in self.senders]
        share = gradients.out.dtype.type(1 / self.sender_count)
        for slot, span in self.slots(gradients.bucket):
            if not self._is_compressed(slot):
                gradients.out[span] = posted.sums[plain : plain + slot.size]
                plain += slot.size
                continue
            rows, columns = self._matrix_shape(slot)
            plain += rows * self.rank
            factor = second[start : start + columns * self.rank].reshape(columns, self.rank)
            start += factor.size
            whole = _product(bases[slot.name], factor.T).reshape(-1)
            if finite:
                self.factors[slot.name] = factor.copy()
                for error, array in zip(errors, posted.corrected, strict=True):
                    np.subtract(array[span], share * whole, out=error[span])
            gradients.out[span] = whole

    def bytes_per_step(self) -> float:
        """What it sends once it compresses."""
        total = 0
        for bucket in self.buckets:
            first = second = 0
            for slot, _ in self.slots(bucket):
                rows, columns = self._matrix_shape(slot)
                compressed = self._is_compressed(slot)
                first += rows * self.rank if compressed else slot.size
                second += columns * self.rank if compressed else 0
            for size in (first, second):
                nbytes = size * bucket.dtype.itemsize
                total += bytes_sent(nbytes, self.world.rank, self.world.size, self.sender_count)
        return total

    def state_dict(self) -> dict[str, Any]:
        """The errors of all senders, and Q of each matrix."""
        return super().state_dict() | {"factors": {name: factor.copy() for name, factor in self.factors.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; see `ErrorFeedbackExchange`."""
        super().load_state_dict(state)
        self.factors = {name: np.array(state["factors"][name]) for name in self.factors}


def _random_factor(number: int, columns: int, rank: int, dtype: np.dtype[Any]) -> Array:
    return np.random.default_rng([7, number]).standard_normal((columns, rank)).astype(dtype)


def _product(a: Array, b: Array) -> Array:
    return kernels.active().matmul(a, b)


def orthogonal(matrix: Array) -> Array:
    """Orthonormal columns with the same span, by modified Gram-Schmidt.

    Of a column that depends on those before it, only rounding errors are left, whose direction is arbitrary: it becomes zero.

    >>> orthogonal(np.array([[3.0, 1.0], [4.0, 2.0]])).round(6).tolist()
    [[0.6, -0.8], [0.8, 0.6]]
    >>> abs(orthogonal(np.array([[3.0, 6.0], [4.0, 8.0]])).round(6)).tolist()
    [[0.6, 0.0], [0.8, 0.0]]
    """
    q = np.array(matrix.T, order="C")  # columns as rows, contiguous
    dot = kernels.active().dot
    sizes = [math.sqrt(dot(column, column)) for column in q]
    for i, column in enumerate(q):
        left = math.sqrt(dot(column, column))
        column *= q.dtype.type(0 if left <= 100 * np.finfo(q.dtype).eps * sizes[i] else 1 / left)
        for other in q[i + 1 :]:
            other -= q.dtype.type(dot(column, other)) * column
    return np.ascontiguousarray(q.T)
