"""What happens beside the optimisation: early stopping, and whatever a user adds.

A callback is called on every rank at these events, in the order in which the callbacks were given:

| event                         | when                                                                          |
|-------------------------------|-------------------------------------------------------------------------------|
| `on_start(run)`               | before the first step, with the state restored                                |
| `on_step(run, result)`        | after an optimizer step                                                       |
| `on_evaluation(run, metrics)` | after an evaluation                                                           |
| `on_checkpoint(run)`          | after the state was handed to the checkpoint writer                           |
| `on_rollback(run)`            | after the run returned to an earlier checkpoint (`train.nonfinite: rollback`, |
|                               | or, with `--survive`, a rank whose memory was corrupted)                      |
| `on_end(run, summary)`        | after the last step and evaluation                                            |
| `on_interrupt(run)`           | instead of `on_end`, when a signal stopped the run; its state is saved        |
| `close()`                     | last, however the run ended, also after an exception                          |

`run` is the trainer, seen as a `RunContext`: what a callback may read, and `run.stop("why")`, which ends the run after this
step. All ranks must decide alike, so base decisions on what is the same on every rank (`result.loss`, `metrics`,
`run.progress`), never on a clock. What a callback must remember across a restart, it returns from `state_dict`.

    class Print(Callback):
        def on_step(self, run, result):
            if run.world.rank == 0:
                print(run.progress.step, result.loss)

    trainer = Trainer(resolve("configs/diamonds.yaml"), comm.init(), callbacks=[Print()])
    trainer.run(Path("runs/mine"))

A plugin that registers a callback (`register_callback`) makes it available in YAML, under `train.callbacks`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allgrad import nn, optim
    from allgrad.comm import Times, World
    from allgrad.data import DataInfo
    from allgrad.parallel import Overlap, StepResult
    from allgrad.train.config.schema import RunConfig
    from allgrad.train.config.validation import RunPlan
    from allgrad.train.run.progress import Progress

__all__ = ["Callback", "EarlyStopping", "RunContext", "improves", "named_callbacks"]


class RunContext(Protocol):
    """What callbacks and loggers see of a run.

    Attributes:
        config: the resolved configuration.
        world: the ranks.
        model, optimizer: those being trained.
        info: what the data are.
        plan: the planned number of steps.
        progress: steps done, latest results.
        directory: the run's directory; only rank 0 writes there.
        resumed: whether the run continues from a checkpoint.
        gradient_norm: of the last step, before clipping; None if it is not computed.
        bucket_times: when each gradient bucket of the last step was posted and done.
        overlap: how much of the communication so far was hidden behind computation.
    """

    config: RunConfig
    world: World
    model: nn.Module
    optimizer: optim.Optimizer
    info: DataInfo
    plan: RunPlan
    progress: Progress
    directory: Path
    resumed: bool
    gradient_norm: float | None
    bucket_times: list[Times]
    overlap: Overlap

    def stop(self, reason: str) -> None:
        """End the run after this step; every rank must call it at the same step."""
        ...


class Callback:
    """Does nothing at every event; subclasses override what they need."""

    def on_start(self, run: RunContext) -> None: ...

    def on_step(self, run: RunContext, result: StepResult) -> None: ...

    def on_evaluation(self, run: RunContext, metrics: dict[str, float]) -> None: ...

    def on_checkpoint(self, run: RunContext) -> None: ...

    def on_rollback(self, run: RunContext) -> None: ...

    def on_end(self, run: RunContext, summary: dict[str, Any]) -> None: ...

    def on_interrupt(self, run: RunContext) -> None: ...

    def close(self) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: arrays and JSON values. Called on rank 0."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict()`; called on every rank."""


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

    def on_evaluation(self, run: RunContext, metrics: dict[str, float]) -> None:
        if improves(metrics[self.metric], self.best, self.mode, self.min_delta):
            self.best, self.waited = metrics[self.metric], 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            run.stop(f"{self.metric} has not improved for {self.waited} evaluations")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


def named_callbacks(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Each callback under the name of its class; further ones of the same class are numbered: "Print", "Print 2".

    >>> list(named_callbacks([Callback(), Callback()]))
    ['Callback', 'Callback 2']
    """
    seen: dict[str, int] = {}
    found = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        found[kind if seen[kind] == 1 else f"{kind} {seen[kind]}"] = callback
    return found
