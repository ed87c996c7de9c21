"""The trainer: from a configuration to a trained model, read from top to bottom.

Data flows one way: the loader gives each rank its samples, the replica runs virtual workers and reduces gradients, the
optimizer steps. Everything that the next step depends on is one of the trainer's `parts`, which a checkpoint stores
(checkpoint/state.py), so that a run that was stopped anywhere and resumed on another number of ranks ends in the same bits.

Ranks decide together. Before each step they exchange what only one of them may know (boundary.py). Everything else that is
decided (when to evaluate, which weights are the best, when to stop early) follows from numbers that are the same on all of them.

What is not here: NaN and infinity (nonfinite.py), what rank 0 does for all (leader.py), ranks that die (survive.py).
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from allgrad import detect_anomaly, optim
from allgrad.data import Loader, Sampler
from allgrad.parallel import Overlap
from allgrad.train.boundary import Boundary
from allgrad.train.callbacks import improves
from allgrad.train.checkpoint.state import capture, gather, restore
from allgrad.train.components.optimizers import parameter_groups, schedule_of
from allgrad.train.config import registry
from allgrad.train.leader import lead, take_over
from allgrad.train.loggers.summary import Summary, write_summary
from allgrad.train.loggers.trace import FIRST_STEPS, Tracer
from allgrad.train.nonfinite import (
    find_non_finite,
    require_finite_metric,
    require_finite_weights,
    roll_back,
    skip_or_stop,
)
from allgrad.train.replica_check import ReplicaCheck
from allgrad.train.run.agreement import on_every_rank, on_rank_0
from allgrad.train.run.machine import peak_bytes
from allgrad.train.run.parts import parts_of, parts_of_ranks, parts_to_restore
from allgrad.train.run.portability import Portability
from allgrad.train.run.progress import Progress
from allgrad.train.run.results import results_of
from allgrad.train.run.workload import build_callbacks, build_replica, build_workload
from allgrad.train.signals import StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from allgrad.comm import Times, World
    from allgrad.parallel import Parts, StepResult
    from allgrad.train.callbacks import Callback
    from allgrad.train.checkpoint.format import Checkpoint
    from allgrad.train.checkpoint.writer import CheckpointWriter
    from allgrad.train.config.schema import RunConfig
    from allgrad.train.survive import Survivor

__all__ = ["Trainer"]


class Trainer:
    """One run. Creating it reads the data and builds the model, and leaves the disk untouched; `run` trains.

    Args:
        config: the resolved configuration.
        world: the ranks.
        checkpoint: where to continue from; the same on every rank.
        callbacks: the user's (callbacks.py), called after those of the configuration.
        before_worker: called as before_worker(step, worker) before each worker's forward. With it, and with `anomaly`, the
            workers run one by one.
        anomaly: stop at the first NaN or infinity, naming the operation that made it.
        same_data: whether the data must be those that the checkpoint was trained on.

    Attributes:
        progress: steps done, samples seen, latest results (run/progress.py).
        parts: everything that a checkpoint stores, by name (run/parts.py).
        worker: the worker of this rank that started last in this step, unless `before_worker` was given.
        bucket_times: when each bucket of the last step was posted and done.

    Raises:
        AllgradError: on every rank, for what is wrong with the configuration, the data, or the checkpoint.

    Example:
        >>> from allgrad.train.config import resolve
        >>> trainer = Trainer(resolve("configs/diamonds.yaml", ["train.steps=20"]), comm.World())  # doctest: +SKIP
        >>> trainer.run(Path("runs/mine"))["eval"]["r2"]  # doctest: +SKIP
        0.9321
    """

    directory: Path
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
        same_data: bool = True,
    ) -> None:
        self.config, self.world, self.anomaly = config, world, anomaly
        self.resumed = checkpoint is not None
        work = on_every_rank(world, lambda: build_workload(config, checkpoint, same_data=same_data))
        self.source, self.data_record, self.plan = work.source, work.data_record, work.plan
        self.model, self.objective, self.evaluator = work.model, work.objective, work.evaluator
        self.info = self.source.info
        world.verify({"training data": self.data_record.digest})
        groups, numbers = on_every_rank(world, lambda: parameter_groups(self.model, config.optimizer.no_decay))
        self._make_replica = partial(
            build_replica,
            config,
            self.model,
            world,
            groups=numbers,
            before_worker=before_worker or self._note_worker,
            batched_workers=before_worker is None and not anomaly,
        )
        self.replica = self._make_replica()
        self.optimizer: optim.Optimizer = registry.optimizers.build(config.optimizer, groups)
        schedule = schedule_of(config.optimizer, self.plan.steps, self.plan.warmup)
        self.scheduler = optim.Scheduler(self.optimizer, schedule)
        self.ema = optim.EMA(self.optimizer.flat, config.optimizer.ema) if config.optimizer.ema else None
        self.loader = self._make_loader()
        self.callbacks = [*build_callbacks(config), *callbacks]
        self.replica_check = ReplicaCheck.of(self.replica, self.optimizer, self.ema, config.parallel.verify_every)
        self.progress = Progress()
        self.parts = parts_of(self)
        self.survivor: Survivor | None = None
        self.last_step: StepResult | None = None
        self.worker: int | None = None
        self.gradient_norm: float | None = None
        self.saved = -1  # the step of the newest checkpoint
        self.overlap = Overlap()
        traced = config.logging.trace
        self.tracer = Tracer(world, FIRST_STEPS if traced is True else int(traced))
        self.bucket_times: list[Times] = []
        self.sent_bytes: list[int] = []  # of this rank, in each step since the start or the last resume
        if checkpoint is not None:
            on_every_rank(world, lambda: restore(parts_to_restore(self.parts, checkpoint), checkpoint))
            self.saved = self.progress.step
        self.portability = Portability(config, self.replica.exchange, self.progress.not_portable)

    def _make_loader(self) -> Loader:
        sampler = Sampler(len(self.source.train), self.config.batch.size, seed=self.config.seed)
        return Loader(
            self.source.train, sampler, workers=self.replica.workers, virtual_workers=self.replica.virtual_workers
        )

    def stop(self, reason: str) -> None:
        """End the run after this step; every rank must call it at the same step."""
        self.progress.stopping = reason

    def load(self, checkpoint: Checkpoint) -> None:
        """Go to where a checkpoint was made."""
        with self.replica.flat.writing():
            self.model.load_state_dict(checkpoint.model)
        restore(parts_to_restore(self.parts, checkpoint), checkpoint)

    def go_back_to(self, checkpoint: Checkpoint) -> None:
        """Go to where a checkpoint of this run was made, and take back what was reported since."""
        self.load(checkpoint)
        self.saved, self.last_step = -1, None
        self._emit("on_rollback")

    def rebuild(self, *, holds: bool) -> None:
        """Make anew what depends on the ranks, which have changed (survive.py); `holds`: see `DataParallel`."""
        self.replica = self._make_replica(holds=holds)
        position = self.loader.state_dict()
        self.loader.close()
        self.loader = self._make_loader()
        self.loader.load_state_dict(position)
        config = self.config
        self.replica_check = ReplicaCheck.of(self.replica, self.optimizer, self.ema, config.parallel.verify_every)
        self.portability = Portability(config, self.replica.exchange, self.progress.not_portable)
        self.tracer = Tracer(self.world, 0)
        self.saved = -1  # nobody knows what the rank that wrote has finished
        self.parts |= parts_of_ranks(self)

    # The run.

    def run(self, directory: Path) -> dict[str, Any]:
        """Train to the end, or until stopped; once. Returns the summary.

        Args:
            directory: the run's; it exists, and only rank 0 touches it.
        """
        self.directory, self.writer = directory, None
        with ExitStack() as self._open:
            self.stop_request = self._open.enter_context(StopRequest())
            joins = self.survivor is not None and self.survivor.outside is not None
            if self.world.rank == 0 and not joins:
                lead(self, self._open)
            self._open.callback(lambda: self.loader.close())
            for callback in self.callbacks:
                self._open.callback(callback.close)
            self._emit("on_start")
            returns = self.survivor is not None and self.replica_check is not None
            if (self.config.train.nonfinite == "rollback" or returns) and not joins:
                self._save()  # so that there is always something to return to
            if self.survivor is not None:
                return self.survivor.run(self._attempt)
            summary = self._attempt()
            # A signal would kill a rank that no longer handles it, and with it the job in which rank 0 still writes.
            self.world.barrier()
            return summary

    def _attempt(self) -> dict[str, Any]:
        """From where the trainer is to the end."""
        if self.world.rank == 0 and self.writer is None:
            take_over(self, self._open)
        return self._finish(self._train())

    def _train(self) -> bool:
        """Step, evaluate, save, until there is a reason to end; True if that is a signal."""
        began = time.perf_counter() - self.progress.seconds
        self.saved_at = time.monotonic()
        self.boundary = Boundary(self.world, self.directory, self.stop_request, self.config.checkpoint.every_minutes)
        if self.survivor is not None and self.survivor.recoveries and self.progress.step:
            self._after_step()
        while self.progress.step < self.plan.steps and self.progress.stopping is None:
            with self.tracer.span("agree"):
                joins = self.survivor is not None and self.survivor.joins
                due = self.boundary.decide(saved_at=self.saved_at, joins=joins)
            if due.stop:
                return True
            if due.join:
                assert self.survivor is not None
                self.survivor.admit()
                continue
            self.tracer.begin(due.trace, self.directory)
            if due.save:
                self._save()
            self._train_step()
            self.progress.seconds = time.perf_counter() - began
            self._after_step()
        return False

    def _after_step(self) -> None:
        """Evaluate and save, where that is due and not done yet."""
        step, every = self.progress.step, self.config.checkpoint.every
        if self.plan.eval_every and step % self.plan.eval_every == 0 and self.progress.evaluated != step:
            self._evaluate()
        if every and step % every == 0:
            self._save()

    def _train_step(self) -> None:
        if self.survivor is not None:
            self.survivor.open_step()
        with self.tracer.span("load"):
            batch = next(self.loader)
        sent = self.world.sent_bytes
        self.scheduler.set(self.progress.step)
        parts = self.replica.parts(batch.arrays, batch.lengths)
        with detect_anomaly() if self.anomaly else nullcontext():
            result = self._run_workers(parts)
        with self.tracer.span("update"):
            wrong = find_non_finite(self.replica, result)
            if not wrong:
                self._update()
        if wrong and self.config.train.nonfinite == "rollback":
            self._roll_back(wrong)
            return
        if wrong:
            skip_or_stop(self, wrong, parts)
        self.tracer.add(self.progress.step, result.times)
        # From the update to `on_step` nothing communicates: a rank that sees another one die is before it or after it.
        self.progress.step += 1
        if self.survivor is not None:
            self.survivor.close_step()
        self.progress.samples += batch.samples
        self.progress.epoch, self.progress.train_loss = batch.epoch, result.loss
        self.sent_bytes.append(self.world.sent_bytes - sent)
        self._note_communication(result)
        if self.writer is not None:
            self.writer.check()
        self.last_step = result
        self._emit("on_step", result)
        if self.replica_check is not None:
            self.replica_check.on_step(self.progress.step)

    def _note_worker(self, step: int, worker: int) -> None:  # noqa: ARG002
        self.worker = worker

    def _run_workers(self, parts: Parts) -> StepResult:
        """The step's gradients; an exception says in which worker it arose."""
        self.worker = None
        try:
            with self.portability.watch():
                result = self.replica.step(self.objective, parts, self.progress.step)
        except Exception as error:
            if self.worker is not None:
                step = self.progress.step
                where = f"--debug --step {step} --worker {self.worker}"
                error.add_note(
                    f"In step {step}, worker {self.worker}: `{where}` stops right before it, in one process."
                )
            raise
        self.portability.settle(self.world)
        self.progress.not_portable = self.portability.reasons
        return result

    def _update(self) -> None:
        if self.survivor is not None:
            self.survivor.save()
        settings, step = self.config.optimizer, self.progress.step + 1
        reported = step % self.config.train.log_every == 0 or step == self.plan.steps
        limit = math.inf if settings.clip_norm is None and reported else settings.clip_norm
        norm = self.replica.update(clip_norm=limit, clip_value=settings.clip_value)
        if norm is not None:
            self.gradient_norm = norm
        if self.ema is not None:
            self.ema.update()

    def _roll_back(self, wrong: str) -> None:
        if self.survivor is not None:
            self.survivor.save()
        roll_back(self, wrong)
        self.saved = -1  # the position in the data differs from the checkpoint's
        if self.survivor is not None:
            self.survivor.close_step()
        self._emit("on_rollback")

    def _note_communication(self, result: StepResult) -> None:
        if result.times is not None:
            self.bucket_times = list(result.times.buckets)
            self.overlap.add(result.times)

    # Evaluation.

    def _evaluate(self) -> None:
        progress, monitor = self.progress, self.config.train.monitor
        with self.tracer.span("evaluation"):
            progress.metrics, progress.evaluated = self.evaluate(), progress.step
        self.saved = -1  # a checkpoint of this step would not know these results
        self._emit("on_evaluation", progress.metrics)
        require_finite_metric(monitor.metric, progress.metrics, progress.step)
        value = progress.metrics[monitor.metric]
        if improves(value, progress.best, monitor.mode):
            progress.best = value
            self._save()

    def evaluate(self) -> dict[str, float]:
        """The loss and the metrics over the held-out data, with the averaged weights if there is an average."""
        with self.evaluated_weights():
            return self.evaluator.run(
                self.model,
                self.source.valid,
                self.world,
                workers=self.replica.workers,
                virtual_workers=self.replica.virtual_workers,
                size=self.config.batch.eval_size or self.config.batch.size,
            )

    @contextmanager
    def evaluated_weights(self) -> Iterator[None]:
        """Inside, the model has the weights that evaluations use."""
        if self.ema is None:
            yield
            return
        if self.survivor is not None:
            self.survivor.save(together=True)
        with self.ema.swapped():
            yield

    # The end, and what is kept.

    def _finish(self, interrupted: bool) -> dict[str, Any]:
        self._save()  # before the last evaluation, which may fail
        if not interrupted and self.progress.evaluated != self.progress.step:
            self._evaluate()
            self._save()
        if self.writer is not None:
            with self.world.long_task("waiting for the checkpoint to be written"):
                self.writer.wait()
        self.tracer.write(self.directory)
        peaks = self.world.all_gather_json(peak_bytes())
        summary = Summary(results_of(self) | {"interrupted": interrupted, "peak_memory_bytes": peaks})
        if interrupted:
            self._emit("on_interrupt")
            return summary
        on_rank_0(self.world, lambda: write_summary(self.directory / "summary.json", summary))
        self._emit("on_end", summary)
        return summary

    def _save(self) -> None:
        """Write a checkpoint, unless this step's is written already; never one whose weights are not finite."""
        self.saved_at = time.monotonic()
        step = self.progress.step
        if self.saved == step:
            return
        require_finite_weights(self.replica.flat.params.flat.values(), step)
        if self.replica_check is not None:
            self.replica_check.check(step)
        self.saved = step
        gather(self.parts)
        if self.writer is not None:
            evaluated = self.progress.evaluated == step
            metric = self.progress.metrics[self.config.train.monitor.metric] if evaluated else None
            with self.world.long_task("writing a checkpoint"), self.tracer.span("checkpoint"):
                self.writer.save(step, metric=metric, **capture(self.parts))
        self._emit("on_checkpoint")

    def _emit(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)
