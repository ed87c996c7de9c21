"""What happens beside the optimisation: reports, early stopping, and whatever a user adds.

A callback is called on every rank at these events; the trainer's own come first, then the user's in the order given:

| event                             | when                                                                       |
|-----------------------------------|----------------------------------------------------------------------------|
| `on_start(trainer)`               | before the first step, state restored; `trainer.folder` is the run's       |
| `on_step(trainer, result)`        | after an optimizer step; `trainer.step` steps are done                     |
| `on_evaluation(trainer, metrics)` | after an evaluation                                                        |
| `on_checkpoint(trainer)`          | after the state was handed to the checkpoint writer                        |
| `on_end(trainer, summary)`        | after the last step and evaluation                                         |
| `on_interrupt(trainer)`           | in place of `on_end`: a signal asked the run to stop; its state is saved   |
| `close()`                         | last, however the run ended, also after an exception                       |

`trainer.step`, `.epoch`, `.model`, `.optimizer`, `.world`, `.folder`, `.metrics` (of the last evaluation) and `.bucket_times`
(when each bucket of the last step travelled) may be read. A callback may set `trainer.stopping = "why"`, which ends the run
after this step. All ranks must decide alike, so it looks at what is the same on every rank (`result.loss`, `metrics`,
`trainer.step`), not at clocks. What it remembers from step to step, and a resumed run must know, it returns from `state`.

    class Print(Callback):
        def on_step(self, trainer, result):
            if trainer.world.rank == 0:
                print(trainer.step, result.loss)

    trainer = Trainer(resolve("configs/diamonds.yaml"), comm.init(), callbacks=[Print()])
    trainer.run(Path("runs/mine"))
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from allgrad.train.loggers.jsonl import MetricsWriter
from allgrad.train.loggers.progress import ProgressLine
from allgrad.train.loggers.tensorboard import TensorBoardWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.parallel import StepResult
    from allgrad.train.trainer import Trainer

__all__ = ["Callback", "EarlyStopping", "Report", "improves"]


class Callback:
    """Does nothing at every event; subclasses override what they need."""

    def on_start(self, trainer: Trainer) -> None: ...

    def on_step(self, trainer: Trainer, result: StepResult) -> None: ...

    def on_evaluation(self, trainer: Trainer, metrics: dict[str, float]) -> None: ...

    def on_checkpoint(self, trainer: Trainer) -> None: ...

    def on_end(self, trainer: Trainer, summary: dict[str, Any]) -> None: ...

    def on_interrupt(self, trainer: Trainer) -> None: ...

    def close(self) -> None: ...

    def state(self) -> dict[str, Any]:
        """What belongs into a checkpoint, as JSON; called on rank 0."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`; called on every rank."""


def improves(value: float, best: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a metric is better than the best so far by more than `min_delta`; NaN never is.

    >>> improves(0.5, None, "min"), improves(0.5, 0.5, "min"), improves(0.9, 0.5, "max"), improves(math.nan, None, "min")
    (True, False, True, False)
    """
    gain = math.inf if best is None else best - value if mode == "min" else value - best
    return gain > min_delta and not math.isnan(value)


class EarlyStopping(Callback):
    """Ends the run when the monitored metric has not improved by more than `min_delta` for `patience` evaluations."""

    def __init__(self, metric: str, mode: str, patience: int, min_delta: float = 0.0) -> None:
        self.metric, self.mode, self.patience, self.min_delta = metric, mode, patience, min_delta
        self.best: float | None = None
        self.waited = 0

    def on_evaluation(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if improves(metrics[self.metric], self.best, self.mode, self.min_delta):
            self.best, self.waited = metrics[self.metric], 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.stopping = f"{self.metric} has not improved for {self.waited} evaluations"

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class Report(Callback):
    """metrics.jsonl, the progress line, TensorBoard: rank 0's word on the run."""

    def __init__(self, trainer: Trainer) -> None:
        config, info = trainer.config, trainer.source.info
        resumed = trainer.step if trainer.resumed else None
        tokens = info.kind == "tokens"
        self.every = config.train.log_every
        self.writer = MetricsWriter(trainer.folder / "metrics.jsonl", resumed=resumed)
        self.board = None
        if config.logging.tensorboard:
            self.board = TensorBoardWriter(trainer.folder / "tensorboard", resumed=resumed)
        unit, style = "tokens" if tokens else "samples", config.logging.progress
        self.line = ProgressLine(trainer.plan.steps, start=trainer.step, unit=unit, style=style)
        self.per_sample = info.input_shape[0] if tokens else 1
        self.since, self.samples = time.perf_counter(), trainer.samples

    def on_step(self, trainer: Trainer, result: StepResult) -> None:
        if trainer.step % self.every and trainer.step != trainer.plan.steps:
            return
        now = time.perf_counter()
        rate = (trainer.samples - self.samples) * self.per_sample / max(now - self.since, 1e-9)
        self.since, self.samples = now, trainer.samples
        values: dict[str, Any] = {"loss": result.loss, "lr": trainer.optimizer.groups[0].lr}
        if len(result.terms) > 1:
            values["terms"] = result.terms
        if trainer.gradient_norm is not None:
            values["gradient_norm"] = trainer.gradient_norm
        self._write(trainer.step, {**values, "epoch": trainer.epoch, "rate": rate})
        self.line.update(trainer.step, {"loss": result.loss}, rate=rate)

    def on_evaluation(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self._write(trainer.step, {"eval": metrics})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.line.message(f"evaluation after {trainer.step} steps: {shown}")

    def on_end(self, trainer: Trainer, summary: dict[str, Any]) -> None:  # noqa: ARG002
        if trainer.stopping is not None:
            self.line.message(f"ended after {trainer.step} of {trainer.plan.steps} steps: {trainer.stopping}")

    def on_interrupt(self, trainer: Trainer) -> None:
        self.line.message(
            f"stopped after {trainer.step} of {trainer.plan.steps} steps; `allgrad resume {trainer.folder}` goes on."
        )

    def _write(self, step: int, values: dict[str, Any]) -> None:
        self.writer.write(step, values)
        if self.board is not None:
            self.board.write(step, values)

    def close(self) -> None:
        self.writer.close()
        self.line.close()
        if self.board is not None:
            self.board.close()
