"""The trainer: from a configuration to a trained model, read from top to bottom.

Data flows one way: the loader gives each virtual worker its part, the replica runs workers and reduces gradients, the optimizer
steps. Everything that the next step depends on is in `state`, and so in a checkpoint: a run that was stopped anywhere and resumed
on another number of ranks ends in the same bits.

Stopping. SIGTERM and SIGUSR1 set a flag on the rank that gets them. Before each step the ranks agree on whether one of them
has it, whether rank 0's clock says that a checkpoint is due, and stop together: a checkpoint, and a clean end.
"""

from __future__ import annotations

import fnmatch
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import detect_anomaly, optim
from allgrad.data import Loader, Sampler
from allgrad.data import random as data_random
from allgrad.parallel import DataParallel
from allgrad.train import registry
from allgrad.train.callbacks import Callback, EarlyStopping, Report
from allgrad.train.checkpoint import CheckpointWriter, weights_sha256
from allgrad.train.config import plan
from allgrad.train.evaluate import evaluate
from allgrad.train.metrics import write_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from allgrad import nn
    from allgrad.comm import World
    from allgrad.data.datasets import Batch
    from allgrad.optim.schedules import Schedule
    from allgrad.parallel import StepResult
    from allgrad.train.checkpoint import Checkpoint
    from allgrad.train.losses import TrainLoss
    from allgrad.train.schema import RunConfig

__all__ = ["Trainer"]


@dataclass
class _Objective:
    """A training loss bound to the model, as `DataParallel.step` takes it."""

    loss: TrainLoss
    model: nn.Module

    def counts(self, part: Batch) -> dict[str, float]:
        return self.loss.counts(part)

    def __call__(self, part: Batch) -> dict[str, Any]:
        return self.loss.sums(self.model, part)


class Trainer:
    """One run.

    Args:
        config: the resolved configuration.
        world: the ranks.
        folder: the run's folder; only rank 0 touches it.
        checkpoint: where to go on from; read by rank 0, the same on every rank.
        callbacks: the user's, called after the trainer's own.
        before_worker: called as before_worker(step, worker) before each worker's forward.
        anomaly: stop at the first NaN or infinity, naming the operation that made it.
        report: write metrics.jsonl and show progress.

    Attributes:
        step: steps done.
        epoch: the pass over the data that the last batch belonged to.
        stopping: why the run ends after this step; None while it goes on.
    """

    def __init__(
        self,
        config: RunConfig,
        world: World,
        folder: Path,
        *,
        checkpoint: Checkpoint | None = None,
        callbacks: Sequence[Callback] = (),
        before_worker: Callable[[int, int], None] | None = None,
        anomaly: bool = False,
        report: bool = True,
    ) -> None:
        self.config, self.world, self.folder = config, world, folder
        self.total = config.batch.virtual_workers
        self.source = registry.datasets.build(config.data, config.seed)
        self.on_tokens = self.source.info.kind == "tokens"
        self.plan = plan(config, len(self.source.train))
        rng = data_random.stream(config.seed, path="model", use="initial weights")
        self.model: nn.Module = registry.models.build(config.model, self.source.info, rng)
        self.loss: TrainLoss = registry.losses.build(config.loss, self.source.info)
        if checkpoint is not None:
            self.model.load_state_dict(checkpoint.model)
        groups, numbers = parameter_groups(self.model, config.optimizer.no_decay)
        self.replica = DataParallel(
            self.model,
            world,
            virtual_workers=self.total,
            bucket_mb=config.parallel.bucket_mb,
            reduction=config.parallel.reduction,
            comm=config.parallel.comm,
            seed=config.seed,
            groups=numbers,
            weights="verify",
            before_worker=before_worker,
        )
        self.optimizer: optim.Optimizer = registry.optimizers.build(config.optimizer, groups)
        self.scheduler = optim.Scheduler(self.optimizer, schedule_of(config, self.plan.steps, self.plan.warmup))
        self.ema = optim.EMA(self.optimizer.flat, config.optimizer.ema) if config.optimizer.ema else None
        sampler = Sampler(len(self.source.train), config.batch.size, seed=config.seed)
        self.loader = Loader(self.source.train, sampler, workers=self.replica.workers, virtual_workers=self.total)
        self.objective = _Objective(self.loss, self.model)
        self.anomaly = anomaly
        self.step = self.epoch = self.last_samples = self.samples = 0
        self.seconds = 0.0
        self.gradient_norm: float | None = None
        self.early_stopping: dict[str, Any] = {"best": None, "waited": 0}
        self.metrics: dict[str, float] = {}
        self.evaluated = -1
        self.last: StepResult | None = None
        self.communication = [0.0, 0.0]  # seconds under way, and exposed
        self.stopping: str | None = None
        self.saved = -1
        if checkpoint is not None:
            self._restore(checkpoint)
        self.callbacks = [*self._own_callbacks(checkpoint, report), *callbacks]

    # The run.

    def run(self) -> dict[str, Any]:
        """Train to the end, or until stopped; returns the summary."""
        began = time.perf_counter() - self.seconds
        with self._writer() as self.writer, self._signals(), self.loader:
            self._emit("on_start")
            saved_at = time.monotonic()
            while self.step < self.plan.steps and self.stopping is None:
                asked, due = self._agree(saved_at)
                if asked:
                    self.stopping = "asked to by a signal"
                    break
                if due:
                    self._save()
                    saved_at = time.monotonic()
                self._train_step()
                self.seconds = time.perf_counter() - began
                if self.plan.eval_every and self.step % self.plan.eval_every == 0:
                    self._evaluate()
                if self.config.checkpoint.every and self.step % self.config.checkpoint.every == 0:
                    self._save()
            return self._finish(asked_to_stop=self.stopping == "asked to by a signal")

    def _train_step(self) -> None:
        batch = next(self.loader)
        parts = dict(zip(self.replica.workers, batch.workers, strict=True))
        self.scheduler.set(self.step)
        with detect_anomaly() if self.anomaly else nullcontext():
            result = self.replica.step(self.objective, parts, self.step)
        self._clip()
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        self.epoch, self.last, self.last_samples = batch.epoch, result, batch.samples
        self.samples += batch.samples
        self._note_communication(result)
        self._emit("on_step", result)

    def _clip(self) -> None:
        settings = self.config.optimizer
        if settings.clip_norm is not None:
            self.gradient_norm = optim.clip_norm(self.optimizer.flat, settings.clip_norm)
        elif settings.clip_value is not None:
            optim.clip_value(self.optimizer.flat, settings.clip_value)

    def _evaluate(self) -> None:
        self.metrics = self.evaluate()
        self.evaluated = self.step
        self._emit("on_evaluation", self.metrics)

    def evaluate(self) -> dict[str, float]:
        """The loss's metrics over the held-out data, with the averaged weights where there is an average."""
        size = self.config.batch.eval_size or self.config.batch.size
        workers = self.replica.workers
        with self.evaluated_weights():
            return evaluate(
                self.model, self.loss, self.source.valid, self.world, workers=workers, total=self.total, size=size
            )

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """Inside, the model has the weights that evaluations use."""
        with self.ema.swapped() if self.ema is not None else nullcontext():
            yield

    def _finish(self, *, asked_to_stop: bool) -> dict[str, Any]:
        if not asked_to_stop and self.evaluated != self.step:
            self._evaluate()
        self._save()
        summary = self.summary()
        if asked_to_stop:
            self._say(f"stopped after {self.step} of {self.plan.steps} steps; `allgrad resume {self.folder}` goes on.")
        else:
            if self.writer is not None:
                self.writer.wait()
                write_summary(self.folder / "summary.json", summary)
            self._emit("on_end", summary)
        for callback in self.callbacks:
            if isinstance(callback, Report):
                callback.close()
        return summary

    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds."""
        under_way, exposed = self.communication
        return {
            "steps": self.step,
            "epochs": self.samples / len(self.source.train),
            "train_loss": None if self.last is None else self.last.loss,
            "eval": self.metrics,
            "weights_sha256": weights_sha256(self.model.state_dict()),
            "ranks": self.world.size,
            "virtual_workers": self.total,
            "seconds": self.seconds,
            "samples_per_second": self.samples / self.seconds if self.seconds else None,
            "comm_hidden_fraction": max(0.0, 1 - exposed / under_way) if under_way else None,
            "same_bits_at_any_rank_count": self.config.parallel.reduction == "exact",
            "parameters": self.model.parameter_count(),
            "stopped": self.stopping,
        }

    # Ranks together.

    def _agree(self, saved_at: float) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, and whether rank 0's clock says that a checkpoint is due."""
        minutes = self.config.checkpoint.every_minutes
        due = minutes is not None and time.monotonic() - saved_at >= 60 * minutes
        mine = np.array([self._signalled, due], np.uint8)
        if self.world.size == 1:
            return self._signalled, due
        everyone = self.world.all_gather(mine)
        return bool(everyone[:, 0].any()), bool(everyone[0, 1])

    @contextmanager
    def _signals(self) -> Iterator[None]:
        self._signalled = False

        def note(number: int, frame: Any) -> None:  # noqa: ARG001
            self._signalled = True

        before = {}
        try:
            for number in (signal.SIGTERM, signal.SIGUSR1):
                before[number] = signal.signal(number, note)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note_communication(self, result: StepResult) -> None:
        if self.replica.engine is None:
            return
        times = [t for t in self.replica.engine.take_times() if t.step >= 0]
        if times:
            self.communication[0] += _union([(t.posted, t.done) for t in times])
            self.communication[1] += result.exposed_seconds

    # State.

    @contextmanager
    def _writer(self) -> Iterator[CheckpointWriter | None]:
        if self.world.rank != 0:
            yield None
            return
        settings = self.config.checkpoint
        mode = self.config.train.monitor.mode
        with CheckpointWriter(
            self.folder / "checkpoints", keep=settings.keep, mode=mode, asynchronous=settings.asynchronous
        ) as writer:
            yield writer

    def _save(self) -> None:
        if self.saved == self.step:
            return
        self.saved = self.step
        if self.writer is not None:
            optimizer = self.optimizer.state_dict()
            arrays = dict(optimizer["arrays"])
            average = self.ema.state_dict() if self.ema is not None else {"meta": None, "arrays": {}}
            state = {
                "step": self.step,
                "samples": self.samples,
                "seconds": self.seconds,
                "loader": self.loader.state(),
                "reducer": self.replica.reducer.state(),
                "optimizer": optimizer["meta"],
                "scheduler": self.scheduler.state_dict(),
                "ema": average["meta"],
                "early_stopping": self.early_stopping,
            }
            metric = self.metrics.get(self.config.train.monitor.metric) if self.evaluated == self.step else None
            self.writer.save(
                self.step,
                model=self.model.state_dict(),
                optimizer=arrays | average["arrays"],
                state=state,
                metric=metric,
            )
        self._emit("on_checkpoint")

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        moments = {k: v for k, v in checkpoint.optimizer.items() if not k.startswith("average/")}
        self.optimizer.load_state_dict({"meta": state["optimizer"], "arrays": moments})
        self.scheduler.load_state_dict(state["scheduler"])
        if self.ema is not None:
            averages = {k: v for k, v in checkpoint.optimizer.items() if k.startswith("average/")}
            self.ema.load_state_dict({"meta": state["ema"], "arrays": averages})
        self.loader.load_state(state["loader"])
        self.replica.reducer.load_state(state["reducer"])
        self.step = self.saved = state["step"]
        self.samples, self.seconds = state["samples"], state["seconds"]
        self.early_stopping = state["early_stopping"]

    # Callbacks.

    def _own_callbacks(self, checkpoint: Checkpoint | None, report: bool) -> Iterator[Callback]:
        early = self.config.train.early_stopping
        if early is not None:
            monitor = self.config.train.monitor
            yield EarlyStopping(monitor.metric, monitor.mode, early.patience, early.min_delta)
        if self.world.rank == 0 and report:
            yield Report(self, resumed=None if checkpoint is None else checkpoint.step)

    def _emit(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    def _say(self, text: str) -> None:
        for callback in self.callbacks:
            if isinstance(callback, Report):
                callback.line.message(text)


def parameter_groups(model: nn.Module, no_decay: Sequence[str]) -> tuple[list[dict[str, Any]], list[int]]:
    """The optimizer's groups (with and without weight decay), and for each parameter the number of its group.

    Args:
        no_decay: patterns of names, `vectors` standing for all with fewer than two axes.
    """
    named = list(model.named_parameters())

    def exempt(name: str, ndim: int) -> bool:
        return any(ndim < 2 if p == "vectors" else fnmatch.fnmatchcase(name, p) for p in no_decay)

    numbers = [int(exempt(name, parameter.ndim)) for name, parameter in named]
    members: list[list[Any]] = [[], []]
    for pair, number in zip(named, numbers, strict=True):
        members[number].append(pair)
    settings: list[dict[str, Any]] = [{}, {"weight_decay": 0.0}]
    groups = [{"params": m, **s} for m, s in zip(members, settings, strict=True) if m]
    return groups, numbers if len(groups) == 2 else [0] * len(numbers)


def schedule_of(config: RunConfig, steps: int, warmup: int) -> Schedule:
    """The configured schedule with its warm-up in front."""
    section = config.optimizer.schedule
    if section is None:
        return optim.Constant()
    after: Schedule = registry.schedules.build(section, steps - warmup)
    return optim.WarmUp(warmup, after) if warmup else after


def _union(intervals: list[tuple[float, float]]) -> float:
    """The length of a union of intervals."""
    total, end = 0.0, -np.inf
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
