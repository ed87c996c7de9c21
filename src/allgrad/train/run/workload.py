"""What a configuration describes, built: data, model, loss and metrics, the length of the run, its replica and callbacks.

Everything in which a mistake of the configuration shows is here, so that it is found before anything else starts.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allgrad.data import random as data_random
from allgrad.nn.precision import apply_precision
from allgrad.parallel import DataParallel
from allgrad.train.callbacks import Callback, EarlyStopping
from allgrad.train.checkpoint.format import CheckpointError
from allgrad.train.checkpoint.state import check_weights
from allgrad.train.components.losses import Objective
from allgrad.train.components.metrics import DEFAULTS
from allgrad.train.config import plan, registry
from allgrad.train.config.validation import check_kinds, check_monitor
from allgrad.train.evaluation import Evaluator
from allgrad.train.run.model import DataRecord
from allgrad.train.run.warm_start import warm_start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad import nn
    from allgrad.comm import World
    from allgrad.data import DataSource
    from allgrad.train.checkpoint.format import Checkpoint
    from allgrad.train.config.schema import RunConfig
    from allgrad.train.config.validation import RunPlan

__all__ = ["Workload", "build_callbacks", "build_replica", "build_workload"]


@dataclass(frozen=True)
class Workload:
    """A run's data, model and loss.

    Attributes:
        source: training and held-out data.
        data_record: what a checkpoint keeps of them.
        plan: how many steps the run has.
        model: with its initial weights, or those of the checkpoint.
        objective: the loss bound to the model.
        evaluator: the loss and the metrics.
    """

    source: DataSource
    data_record: DataRecord
    plan: RunPlan
    model: nn.Module
    objective: Objective
    evaluator: Evaluator


def build_workload(config: RunConfig, checkpoint: Checkpoint | None, *, same_data: bool) -> Workload:
    """Read the data and build the model.

    Args:
        config: the resolved configuration.
        checkpoint: where to continue from, or None for a new run.
        same_data: whether the data must be those that the checkpoint was trained on.

    Raises:
        AllgradError: data, configuration and checkpoint do not fit each other.
    """
    record = None if checkpoint is None else DataRecord.from_checkpoint(checkpoint)
    origin = warm_start(config) if checkpoint is None else None
    known = record or origin
    source = _build_data(config, None if known is None else known.fitted)
    if record is not None and same_data and record.digest != source.digest:
        raise CheckpointError(
            f"The training data have changed since this run started (their digest was {record.digest[:12]}, it is "
            f"{source.digest[:12]} now), so the run cannot be resumed. Restore the original data, or start a new run."
        )
    info = source.info
    check_kinds(config, info)
    planned = plan(config, len(source.train))
    loss = registry.losses.build(config.loss, info)
    evaluator = Evaluator(loss, _metrics(config, source))
    check_monitor(config.train.monitor.metric, evaluator.names)
    rng = data_random.stream(config.seed, path="model", use="initial weights")
    model: nn.Module = registry.models.build(config.model, info, rng)
    apply_precision(model, config.precision, config.float32_layers)
    if checkpoint is not None:
        check_weights(model.state_dict(), checkpoint)
        model.load_state_dict(checkpoint.model)
    if origin is not None:
        origin.load_into(model)
    data_record = DataRecord(info, source.fitted, source.digest)
    return Workload(source, data_record, planned, model, Objective(loss, model), evaluator)


def build_replica(config: RunConfig, model: nn.Module, world: World, **settings: Any) -> DataParallel:
    """The model, trained by all ranks of a world. All of them call it together.

    Args:
        config: the resolved configuration.
        model: with the weights to start from.
        world: the ranks.
        settings: further ones of `DataParallel`, which are not in the configuration.
    """
    return DataParallel(
        model,
        world,
        virtual_workers=config.batch.virtual_workers,
        shard=config.parallel.shard,
        memory=config.parallel.memory,
        bucket_mb=config.parallel.bucket_mb,
        reduction=registry.exchanges.build(config.parallel.reduction),
        comm=config.parallel.comm,
        stall_seconds=config.parallel.stall_seconds,
        seed=config.seed,
        weights="verify",
        **settings,
    )


def build_callbacks(config: RunConfig) -> list[Callback]:
    """Early stopping, if it is configured, and then the `train.callbacks`."""
    monitor, stopping = config.train.monitor, config.train.early_stopping
    configured: list[Callback] = [registry.callbacks.build(section) for section in config.train.callbacks]
    if stopping is None:
        return configured
    return [EarlyStopping(monitor.metric, monitor.mode, stopping.patience, stopping.min_delta), *configured]


def _build_data(config: RunConfig, fitted: Mapping[str, Any] | None) -> DataSource:
    """The data, with the preprocessing of an earlier run if there is one."""
    factory = registry.datasets[config.data.name].factory
    accepts = "fitted" in inspect.signature(factory).parameters
    arguments = (config.seed, fitted) if accepts else (config.seed,)
    source: DataSource = registry.datasets.build(config.data, *arguments)
    return source


def _metrics(config: RunConfig, source: DataSource) -> list[Any]:
    chosen, info = config.train.metrics, source.info
    if chosen is None:
        return [registry.metrics[name].factory(info) for name in DEFAULTS[info.kind]]
    return [registry.metrics.build(section, info) for section in chosen]
