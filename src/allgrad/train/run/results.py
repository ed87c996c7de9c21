"""What a run tells about itself: its reports while it runs, and its summary at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from allgrad.parallel.exchanges import describe_exchange
from allgrad.train.callbacks import RunContext
from allgrad.train.checkpoint.format import weights_sha256
from allgrad.train.config import registry
from allgrad.train.loggers.pace import Pace
from allgrad.train.loggers.progress import ProgressLine
from allgrad.train.loggers.reporter import Reporter

if TYPE_CHECKING:
    from allgrad.data import DataSource
    from allgrad.optim import EMA
    from allgrad.parallel import DataParallel, Overlap
    from allgrad.train.components.losses import Objective
    from allgrad.train.run.model import DataRecord
    from allgrad.train.run.portability import Portability
    from allgrad.train.survive import Survivor

__all__ = ["exchange_of", "make_reporter", "results_of"]


class Run(RunContext, Protocol):
    """What is told about; the trainer has it."""

    source: DataSource
    data_record: DataRecord
    replica: DataParallel
    objective: Objective
    ema: EMA | None
    overlap: Overlap
    portability: Portability
    sent_bytes: list[int]
    survivor: Survivor | None


def make_reporter(run: Run) -> Reporter:
    """The callback through which a run reports: to the configured loggers, and on the screen."""
    settings = run.config.logging
    line = ProgressLine(
        run.plan.steps,
        start=run.progress.step,
        unit="tokens" if run.info.kind == "tokens" else "samples",
        style=settings.progress,
        monitor=run.config.train.monitor.metric,
    )
    loggers = [*(registry.loggers.build(section, run) for section in settings.loggers), line]
    # A forward pass costs about a third of a training step on the same samples.
    evaluation_in_steps = len(run.source.valid) / run.config.batch.size / 3
    pace = Pace(run.plan.steps, eval_every=run.plan.eval_every, evaluation_in_steps=evaluation_in_steps)
    return Reporter(run, loggers, pace)


def results_of(run: Run) -> dict[str, Any]:
    """What `summary.json` holds of a run; the weights are those that training continues with, not their average."""
    progress, replica = run.progress, run.replica
    return {
        "steps": progress.step,
        "epochs": progress.samples / len(run.source.train),
        "train_loss": progress.train_loss,
        "eval": progress.metrics,
        "weights_sha256": weights_sha256(run.model.state_dict()),
        "data_sha256": run.data_record.digest,
        "ranks": run.world.size,
        "virtual_workers": replica.virtual_workers,
        "virtual_workers_from": run.config.batch.virtual_workers_from,
        "one_by_one": replica.why_one_by_one(run.objective) or None,
        "seconds": progress.seconds,
        "samples_per_second": progress.samples / progress.seconds if progress.seconds else None,
        "comm_hidden_fraction": run.overlap.hidden_fraction,
        "same_bits_at_any_rank_count": replica.exchange.same_bits,
        **run.portability.summary(),
        "exchange": exchange_of(run),
        "parameters": run.model.parameter_count(),
        "memory": replica.placement.memory,
        "memory_why": replica.placement.why,
        "memory_saved_mb": _memory_saved(run) / 2**20,
        "stopped": progress.stopping,
        "skipped_steps": progress.skipped,
        "rollbacks": progress.rollbacks,
        "recoveries": [] if run.survivor is None else run.survivor.recoveries,
    }


def _memory_saved(run: Run) -> int:
    """Bytes of all nodes together that other settings would need: a copy of everything for each rank."""
    ranks, replica = run.world.size, run.replica
    copies = run.world.nodes if replica.placement.memory == "node" else ranks
    states = 1 if run.config.parallel.shard is not None else copies
    weights = [replica.flat.params] if run.ema is None else [replica.flat.params, run.ema.average]
    return sum(each.nbytes for each in weights) * (ranks - copies) + sum(
        arena.nbytes for arena in run.optimizer.state.values()
    ) * (ranks - states)


def exchange_of(run: Run) -> dict[str, Any]:
    """Which exchange it is, what rank 0 sends in a step (predicted for gradients and weights, and counted), and its bits."""
    parallel, exchange, counted = run.config.parallel, run.replica.exchange, run.sent_bytes
    name = describe_exchange({"name": parallel.reduction.name, **parallel.reduction.options()})
    return {
        "name": name if parallel.shard is None else f"{name}, optimizer sharded",
        "path": exchange.path if run.world.size > 1 else "one rank: nothing is exchanged",
        "same_bits": exchange.same_bits,
        "why": exchange.why,
        "predicted_bytes_per_step": exchange.bytes_per_step(),
        "sent_bytes_per_step": sum(counted) / len(counted) if counted else None,
    }
