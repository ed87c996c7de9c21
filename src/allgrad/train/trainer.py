"""The trainer: from a configuration to a trained model, read from top to bottom.

Data flows one way: the loader gives each virtual worker its part, the replica runs workers and reduces gradients, the optimizer
steps. Everything that the next step depends on goes into a checkpoint (state.py), so that a run that was stopped anywhere and
resumed on another number of ranks ends in the same bits.

Ranks decide together. A signal is a flag on the rank that got it, and minutes pass on rank 0's clock: before each step the
ranks exchange both, and stop, or write a checkpoint, at the same step. Everything else that is decided (when to evaluate, which
weights are the best, when to stop early) follows from numbers that are the same on all of them.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import detect_anomaly, optim
from allgrad.data import Loader, Sampler
from allgrad.data import random as data_random
from allgrad.parallel import DataParallel, Overlap
from allgrad.train.callbacks import Callback, EarlyStopping, Report, improves
from allgrad.train.checkpoint import state
from allgrad.train.checkpoint.format import weights_sha256
from allgrad.train.checkpoint.writer import CheckpointWriter
from allgrad.train.components.losses import Objective
from allgrad.train.components.optimizers import parameter_groups, schedule_of
from allgrad.train.config import plan, registry
from allgrad.train.config.validation import check_kinds, check_monitor
from allgrad.train.evaluation import evaluate
from allgrad.train.loggers.summary import write_summary
from allgrad.train.run.agreement import SharedError, on_every_rank
from allgrad.train.signals import StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from allgrad import nn
    from allgrad.comm import Times, World
    from allgrad.data import DataSource
    from allgrad.parallel import StepResult
    from allgrad.train.checkpoint.format import Checkpoint
    from allgrad.train.components.losses import TrainLoss
    from allgrad.train.config.schema import RunConfig

__all__ = ["Trainer"]


class Trainer:
    """One run. Making it reads the data and builds the model, and leaves the disk alone; `run` trains.

    Args:
        config: the resolved configuration.
        world: the ranks.
        checkpoint: where to go on from; the same on every rank.
        callbacks: the user's (callbacks.py), called after the trainer's own.
        before_worker: called as before_worker(step, worker) before each worker's forward.
        anomaly: stop at the first NaN or infinity, naming the operation that made it.

    Attributes:
        step: steps done.
        epoch: the pass over the data that the last batch belonged to.
        samples, seconds: trained on and taken so far, in earlier parts of a resumed run too.
        metrics: of the last evaluation, which was after `evaluated` steps (-1: there was none).
        best: the best value of the monitored metric.
        stopping: why the run ends after this step; None while it goes on.
        worker: the one of this rank's that began last in this step, unless `before_worker` was given.
        bucket_times: when each bucket of the last step was posted and done.

    Example:
        >>> from allgrad.train.config import resolve
        >>> trainer = Trainer(resolve("configs/diamonds.yaml", ["train.steps=20"]), comm.World())  # doctest: +SKIP
        >>> trainer.run(Path("runs/mine"))["eval"]["r2"]  # doctest: +SKIP
        0.9321
    """

    folder: Path
    writer: CheckpointWriter | None

    def __init__(
        self,
        config: RunConfig,
        world: World,
        *,
        checkpoint: Checkpoint | None = None,
        callbacks: Sequence[Callback] = (),
        before_worker: Callable[[int, int], None] | None = None,
        anomaly: bool = False,
    ) -> None:
        self.config, self.world, self.anomaly = config, world, anomaly
        on_every_rank(world, self._build)
        if checkpoint is not None:
            self.model.load_state_dict(checkpoint.model)
        groups, numbers = parameter_groups(self.model, config.optimizer.no_decay)
        self.replica = DataParallel(
            self.model,
            world,
            virtual_workers=config.batch.virtual_workers,
            bucket_mb=config.parallel.bucket_mb,
            reduction=config.parallel.reduction,
            comm=config.parallel.comm,
            stall_seconds=config.parallel.stall_seconds,
            seed=config.seed,
            groups=numbers,
            weights="verify",
            before_worker=before_worker or self._note_worker,
        )
        self.optimizer: optim.Optimizer = registry.optimizers.build(config.optimizer, groups)
        schedule = schedule_of(config.optimizer, self.plan.steps, self.plan.warmup)
        self.scheduler = optim.Scheduler(self.optimizer, schedule)
        self.ema = optim.EMA(self.optimizer.flat, config.optimizer.ema) if config.optimizer.ema else None
        self.objective = Objective(self.loss, self.model)
        sampler = Sampler(len(self.source.train), config.batch.size, seed=config.seed)
        self.loader = Loader(
            self.source.train, sampler, workers=self.replica.workers, virtual_workers=self.replica.virtual_workers
        )
        self.callbacks = [*self._early_stopping(), *callbacks]
        self.worker: int | None = None
        self.step = self.epoch = self.samples = 0
        self.seconds = 0.0
        self.train_loss: float | None = None
        self.gradient_norm: float | None = None
        self.metrics: dict[str, float] = {}
        self.evaluated = self.saved = -1
        self.best: float | None = None
        self.stopping: str | None = None
        self.overlap = Overlap()
        self.bucket_times: list[Times] = []
        self.resumed = checkpoint is not None
        if checkpoint is not None:
            state.restore(self, checkpoint)
            self.saved = self.step

    def _build(self) -> None:
        """Everything in which a mistake of the configuration shows: data, model, loss."""
        config = self.config
        self.source: DataSource = registry.datasets.build(config.data, config.seed)
        check_kinds(config, self.source.info)
        self.plan = plan(config, len(self.source.train))
        self.loss: TrainLoss = registry.losses.build(config.loss, self.source.info)
        check_monitor(config.train.monitor.metric, self.loss)
        rng = data_random.stream(config.seed, path="model", use="initial weights")
        self.model: nn.Module = registry.models.build(config.model, self.source.info, rng)

    # The run.

    def run(self, folder: Path) -> dict[str, Any]:
        """Train to the end, or until stopped; once. Returns the summary.

        Args:
            folder: of the run; it exists, and only rank 0 touches it.
        """
        self.folder = folder
        with ExitStack() as stack:
            self.stop_request = stack.enter_context(StopRequest())
            self.writer = stack.enter_context(self._checkpoint_writer()) if self.world.rank == 0 else None
            stack.enter_context(self.loader)
            if self.world.rank == 0:
                self.callbacks.insert(0, Report(self))
            for callback in self.callbacks:
                stack.callback(callback.close)
            self._emit("on_start")
            interrupted = self._train()
            summary = self._finish(interrupted)
            # Together: a signal would end a rank that no longer notes it, and with it the job in which rank 0 still writes.
            self.world.barrier()
            return summary

    def _train(self) -> bool:
        """Step, evaluate, save, until there is a reason to end; True where that is a signal."""
        began = time.perf_counter() - self.seconds
        self.saved_at = time.monotonic()
        every = self.config.checkpoint.every
        while self.step < self.plan.steps and self.stopping is None:
            asked_to_stop, minutes_are_over = self._agree()
            if asked_to_stop:
                return True
            if minutes_are_over:
                self._save()
            self._train_step()
            self.seconds = time.perf_counter() - began
            if self.plan.eval_every and self.step % self.plan.eval_every == 0:
                self._evaluate()
            if every and self.step % every == 0:
                self._save()
        return False

    def _train_step(self) -> None:
        batch = next(self.loader)
        self.scheduler.set(self.step)
        parts = dict(zip(self.replica.workers, batch.workers, strict=True))
        with detect_anomaly() if self.anomaly else nullcontext():
            result = self._run_workers(parts)
        if math.isnan(result.loss):
            raise SharedError(
                f"step {self.step}: the loss is not a number, and no step leads back from there. With --debug --anomaly the "
                "operation is named that made the first one; a lower optimizer.lr or optimizer.clip_norm may avoid it.",
                exit_code=1,
            )
        self._clip()
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self.step += 1
        self.samples += batch.samples
        self.epoch, self.train_loss = batch.epoch, result.loss
        self._note_communication(result)
        if self.writer is not None:
            self.writer.check()
        self._emit("on_step", result)

    def _note_worker(self, step: int, worker: int) -> None:  # noqa: ARG002
        self.worker = worker

    def _run_workers(self, parts: dict[int, Any]) -> StepResult:
        """The step's gradients; an exception is told in which worker it arose."""
        self.worker = None
        try:
            return self.replica.step(self.objective, parts, self.step)
        except Exception as error:
            if self.worker is not None:
                where = f"--debug --step {self.step} --worker {self.worker}"
                error.add_note(
                    f"In step {self.step}, worker {self.worker}: `{where}` stops right before it, in one process."
                )
            raise

    def _clip(self) -> None:
        settings = self.config.optimizer
        if settings.clip_norm is not None:
            self.gradient_norm = optim.clip_norm(self.optimizer.flat, settings.clip_norm)
        elif settings.clip_value is not None:
            optim.clip_value(self.optimizer.flat, settings.clip_value)

    def _note_communication(self, result: StepResult) -> None:
        if result.times is not None:
            self.bucket_times = list(result.times.buckets)
            self.overlap.add(result.times)

    def _agree(self) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, and whether rank 0's clock says that a checkpoint is due."""
        minutes = self.config.checkpoint.every_minutes
        due = minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        everyone = self.world.all_gather(np.array([self.stop_request.asked, due]))
        return bool(everyone[:, 0].any()), bool(everyone[0, 1])

    # Evaluation.

    def _evaluate(self) -> None:
        self.metrics, self.evaluated = self.evaluate(), self.step
        self.saved = -1  # a checkpoint of this step would not know what was found
        self._emit("on_evaluation", self.metrics)
        monitor = self.config.train.monitor
        value = self.metrics[monitor.metric]
        if improves(value, self.best, monitor.mode):
            self.best = value
            self._save()

    def evaluate(self) -> dict[str, float]:
        """The loss's metrics over the held-out data, with the averaged weights where there is an average."""
        size = self.config.batch.eval_size or self.config.batch.size
        workers, virtual_workers = self.replica.workers, self.replica.virtual_workers
        with self.evaluated_weights():
            return evaluate(
                self.model,
                self.loss,
                self.source.valid,
                self.world,
                workers=workers,
                virtual_workers=virtual_workers,
                size=size,
            )

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """Inside, the model has the weights that evaluations use."""
        with self.ema.swapped() if self.ema is not None else nullcontext():
            yield

    # The end, and what is kept.

    def _finish(self, interrupted: bool) -> dict[str, Any]:
        if not interrupted and self.evaluated != self.step:
            self._evaluate()
        self._save()
        if self.writer is not None:
            with self.world.long_task("waiting for the checkpoint to be written"):
                self.writer.wait()
        summary = self.summary() | {"interrupted": interrupted}
        if interrupted:
            self._emit("on_interrupt")
            return summary
        if self.world.rank == 0:
            write_summary(self.folder / "summary.json", summary)
        self._emit("on_end", summary)
        return summary

    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds; the weights are those that training goes on with, not their average."""
        return {
            "steps": self.step,
            "epochs": self.samples / len(self.source.train),
            "train_loss": self.train_loss,
            "eval": self.metrics,
            "weights_sha256": weights_sha256(self.model.state_dict()),
            "ranks": self.world.size,
            "virtual_workers": self.replica.virtual_workers,
            "seconds": self.seconds,
            "samples_per_second": self.samples / self.seconds if self.seconds else None,
            "comm_hidden_fraction": self.overlap.hidden_fraction,
            "same_bits_at_any_rank_count": self.replica.exchange.same_bits,
            "parameters": self.model.parameter_count(),
            "stopped": self.stopping,
        }

    def _save(self) -> None:
        self.saved_at = time.monotonic()
        if self.saved == self.step:
            return
        self.saved = self.step
        if self.writer is not None:
            metric = self.metrics[self.config.train.monitor.metric] if self.evaluated == self.step else None
            with self.world.long_task("writing a checkpoint"):
                self.writer.save(self.step, metric=metric, **state.capture(self))
        self._emit("on_checkpoint")

    def _checkpoint_writer(self) -> CheckpointWriter:
        settings, mode = self.config.checkpoint, self.config.train.monitor.mode
        folder = self.folder / "checkpoints"
        return CheckpointWriter(folder, keep=settings.keep, mode=mode, asynchronous=settings.asynchronous)

    # Callbacks.

    def _early_stopping(self) -> Iterator[Callback]:
        settings, monitor = self.config.train.early_stopping, self.config.train.monitor
        if settings is not None:
            yield EarlyStopping(monitor.metric, monitor.mode, settings.patience, settings.min_delta)

    def _emit(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)
