"""The random numbers of layers: counter-based, so that a mask has a name and not a position in a sequence.

The contract: what a layer draws is a function of (seed, step, worker, path of the layer, number of its use in this step), and of
nothing else. It does not depend on the rank that runs the worker, on the order in which layers run, or on what other layers
drew. A step of a virtual worker runs in a stream:

    with nn.random_stream(seed=1, step=step, worker=worker, model=model):
        loss = model(x)

The path is the layer's place in `model`, or without that argument in the outermost module that was called. Two models that
run in one stream draw different numbers, even for layers of the same path, since the second use counts up. In two streams of
the same name they draw the same numbers: give each model a seed of its own.

A recomputed region (`ag.checkpoint`) starts from the use counts of its forward pass, so it draws the same masks.

The generator is Philox 4x64 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with a key of 128 bits, a
hash (SHA-256) of the name.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextvars import ContextVar
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from allgrad import kernels
from allgrad.autodiff import on_recompute
from allgrad.nn.batched_workers import current_workers
from allgrad.nn.module import Module, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from allgrad.nn.batched_workers import Workers


class Stream:
    """The source of random numbers for the layers of one virtual worker, in one step. All three numbers are Python's."""

    __slots__ = ("seed", "step", "uses", "worker")

    def __init__(self, seed: int, step: int = 0, worker: int = 0) -> None:
        self.seed, self.step, self.worker = seed, step, worker
        self.uses: dict[str, int] = {}

    def words(self, path: str, count: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """Random 32-bit words for the next use of the layer at `path`: (count,) uint32."""
        name = self.seed, self.step, (self.worker,), path, _next_use(self.uses, path)
        return _words(*name, np.array([0, count]))

    def fork(self) -> Stream:
        """A copy that continues from here on its own."""
        made = Stream(self.seed, self.step, self.worker)
        made.uses = dict(self.uses)
        return made


class WorkerStreams:
    """The streams of several virtual workers whose samples run as one batch, and so use the same layers.

    Args:
        workers: their numbers, in the order of the batch (`batched_workers.py`).
    """

    __slots__ = ("seed", "step", "uses", "workers")

    def __init__(self, seed: int, step: int, workers: Sequence[int]) -> None:
        self.seed, self.step, self.workers = seed, step, workers
        self.uses: dict[str, int] = {}

    def words(
        self, path: str, shape: tuple[int, ...], samples: Workers, axis: int
    ) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """Random 32-bit words for the next use of the layer at `path`: uint32 of this shape, for each worker those of its stream.

        Args:
            samples: which samples are whose.
            axis: of the samples.
        """
        edges = samples.edges(math.prod(shape))
        drawn = _words(self.seed, self.step, self.workers, path, _next_use(self.uses, path), edges)
        if axis == 0:
            return drawn.reshape(shape)
        words = np.empty(shape, np.uint32)
        for rows, (start, stop) in zip(samples.spans(shape[axis]), pairwise(edges.tolist()), strict=True):
            place = words[(slice(None),) * axis + (rows,)]
            place[...] = drawn[start:stop].reshape(place.shape)
        return words

    def fork(self) -> WorkerStreams:
        """A copy that continues from here on its own."""
        made = WorkerStreams(self.seed, self.step, self.workers)
        made.uses = dict(self.uses)
        return made


def _next_use(uses: dict[str, int], path: str) -> int:
    use = uses.get(path, 0)
    uses[path] = use + 1
    return use


def _words(
    seed: int, step: int, workers: Sequence[int], path: str, use: int, edges: np.ndarray[Any, np.dtype[np.int64]]
) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Words edges[i] to edges[i + 1] are the first of worker number i's stream under this name: (edges[-1],) uint32."""
    place = json.dumps(path)
    names = [f"[{seed}, {step}, {worker}, {place}, {use}]" for worker in workers]
    digests = b"".join([hashlib.sha256(name.encode()).digest()[:16] for name in names])
    keys = np.frombuffer(digests, dtype="<u8").astype(np.uint64).reshape(-1, 2)
    return kernels.active().random_words(keys, edges)


S = TypeVar("S", bound=Stream | WorkerStreams)

_current: ContextVar[Stream | WorkerStreams | None] = ContextVar("allgrad_random_stream", default=None)


def random_words(path: str, shape: tuple[int, ...], *, samples: int = 0) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Random 32-bit words for the next use of the layer at `path`, from the current stream: uint32 of this shape.

    In a batch of several virtual workers each worker's samples get the words of its own stream.

    Args:
        path: of the layer.
        shape: of the result.
        samples: the axis of the samples.
    """
    stream = _in_use()
    if isinstance(stream, Stream):
        return stream.words(path, math.prod(shape)).reshape(shape)
    workers = current_workers()
    assert workers is not None
    return stream.words(path, shape, workers, samples)


def current_stream() -> Stream:
    """The stream in use. Outside of any, it is one with seed 0 for this thread, whose use counts grow from step to step.

    Raises:
        RuntimeError: the samples of several virtual workers run as one batch, so that there is one stream for each; take
            `random_words`.
    """
    stream = _in_use()
    if isinstance(stream, WorkerStreams):
        raise RuntimeError(
            "There is one stream for each virtual worker here. A module that declares `rows_independent` draws by "
            "allgrad.nn.random.random_words."
        )
    return stream


def _in_use() -> Stream | WorkerStreams:
    stream = _current.get()
    if stream is None:
        stream = Stream(0)
        _current.set(stream)
    return stream


def random_stream(
    *, seed: int, step: int = 0, worker: int = 0, model: Module | None = None
) -> AbstractContextManager[Stream]:
    """A context in which layers draw from the stream of this name; see the top of this file.

    Args:
        seed: of the run.
        step: the number of the step.
        worker: the virtual worker, not the rank.
        model: the model in which layers have their paths. None: the outermost module that is called.

    Raises:
        TypeError: if a number is not an integer.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> with nn.random_stream(seed=1, step=5, worker=0) as stream:
    ...     first = stream.words("dropout", 3)
    >>> with nn.random_stream(seed=1, step=5, worker=0) as stream:
    ...     again = stream.words("dropout", 3)
    >>> bool((first == again).all())
    True
    """
    stream = Stream(_whole("seed", seed), _whole("step", step), _whole("worker", worker))
    return _Entered(stream, running(model))


def _whole(label: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"random_stream: {label} must be an integer. Got {value!r} instead.")
    return int(value)


def worker_streams(
    *, seed: int, step: int, workers: Iterable[int], model: Module
) -> AbstractContextManager[WorkerStreams]:
    """`random_stream` for several virtual workers whose samples run as one batch."""
    seed, step = _whole("seed", seed), _whole("step", step)
    return _Entered(WorkerStreams(seed, step, tuple(workers)), running(model))


class _Entered(Generic[S]):
    """A context in which layers draw from a stream and, if `model` is given, have their paths in that model."""

    __slots__ = ("model", "stream", "token")

    def __init__(self, stream: S, model: running | None = None) -> None:
        self.stream, self.model = stream, model

    def __enter__(self) -> S:
        self.token = _current.set(self.stream)
        if self.model is not None:
            self.model.__enter__()
        return self.stream

    def __exit__(self, *_: object) -> None:
        if self.model is not None:
            self.model.__exit__()
        _current.reset(self.token)


def _snapshot() -> Callable[[], AbstractContextManager[Any]]:
    before = _in_use().fork()
    return lambda: _Entered(before.fork())


on_recompute(_snapshot)
