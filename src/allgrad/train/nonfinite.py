"""NaN and infinity: found before they reach the weights, and never written over a good checkpoint.

After the gradients are reduced, every rank looks at the loss and at the gradients. Exchanges that give every rank the same bits
make them find the same; with any other exchange they agree on it. What happens then is `train.nonfinite`:

- `stop`: the run ends with a `NonFiniteError`; weights and checkpoints are those of the step before. Each rank first runs its
  workers of that step again in anomaly mode, so that the message names the operation that made the first NaN or infinity.
- `skip`: this step changes nothing; at most `SKIPS` such steps in a row.
- `rollback`: back to the newest checkpoint, and on from there with the batches that follow the offending one; at most
  `ROLLBACKS` times to the same checkpoint.

Weights and the monitored metric are looked at as well, before a checkpoint is written and after an evaluation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from allgrad import detect_anomaly, nn
from allgrad.autodiff.engine import pull
from allgrad.autodiff.errors import AnomalyError
from allgrad.errors import NonFiniteError
from allgrad.train.checkpoint.format import load_latest
from allgrad.train.checkpoint.state import broadcast_checkpoint
from allgrad.train.evaluation import non_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from allgrad.comm import World
    from allgrad.data import Loader
    from allgrad.memory import Arena, FlatParameters
    from allgrad.parallel import DataParallel, StepResult
    from allgrad.train.checkpoint.format import Checkpoint
    from allgrad.train.checkpoint.writer import CheckpointWriter
    from allgrad.train.components.losses import Objective
    from allgrad.train.config.schema import RunConfig
    from allgrad.train.run.progress import Progress

__all__ = [
    "ROLLBACKS",
    "SKIPS",
    "all_finite",
    "find_non_finite",
    "require_finite_metric",
    "require_finite_weights",
    "roll_back",
    "skip_or_stop",
]

SKIPS = 10
"""Steps in a row that may be skipped."""

ROLLBACKS = 3
"""Times that a run may return to the same checkpoint."""


def all_finite(arrays: Iterable[np.ndarray[Any, Any]]) -> bool:
    """Whether no element is NaN or infinite, at the cost of reading each array once.

    A finite sum of squares proves it. One that overflowed does not disprove it, so only then each element is looked at.

    >>> all_finite([np.array([1.0, 1e200])]), all_finite([np.array([1.0, np.nan])])
    (True, False)
    """
    with np.errstate(all="ignore"):
        return all(math.isfinite(float(np.dot(a, a))) or bool(np.isfinite(a).all()) for a in arrays)


def describe_non_finite(
    loss: float, terms: Mapping[str, float], flat: FlatParameters, names: Iterable[str], partial: Sequence[Arena] = ()
) -> str:
    """In words, what is NaN or infinite in a step: the loss, or else the gradients of which parameters; "" for nothing.

    Args:
        loss: the objective.
        terms: the loss's terms.
        flat: has the gradients. Ranks that share them look at their own share, and exchange what they found.
        names: the parameters that have a gradient.
        partial: other memory of gradients, where an exchange does not sum all of them into `flat`.
    """
    if not math.isfinite(loss):
        wrong = [f"{name} is {value}" for name, value in terms.items() if not math.isfinite(value)]
        return f"the loss is {loss}" + (f" ({', '.join(wrong)})" if len(terms) > 1 and wrong else "")
    share = flat.own_share(whole=False)
    finite = all_finite(flat.grads.flat[dtype][start:stop] for dtype, (start, stop) in share.items())
    finite = finite and all(all_finite(arena.flat.values()) for arena in partial)
    if not flat.sharing.add_up(np.array([0.0 if finite else 1.0])).any():
        return ""
    arenas = (flat.grads, *partial)
    bad = [name for name in names if not all(np.isfinite(arena[name]).all() for arena in arenas)]
    if not bad:
        return ""  # in memory that belongs to no parameter with a gradient
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"the gradient of {bad[0]}{more} is not finite, though the loss is {loss:.6g}"


def find_non_finite(replica: DataParallel, result: StepResult) -> str:
    """What is NaN or infinite in a step, in words; "" if nothing is. The same on every rank; all call it together."""
    used = [name for name in replica.flat.leaves if name not in result.unused]
    wrong = describe_non_finite(result.loss, result.terms, replica.flat, used, replica.partial_gradients)
    exchange = replica.exchange
    if replica.world.size > 1 and not (exchange.same_bits and exchange.synchronous):
        wrong = next((text for text in replica.world.all_gather_json(wrong) if text), "")
    return wrong


class Run(Protocol):
    """What is needed of a trainer."""

    config: RunConfig
    world: World
    model: nn.Module
    objective: Objective
    replica: DataParallel
    loader: Loader
    progress: Progress
    directory: Path
    writer: CheckpointWriter | None

    def load(self, checkpoint: Checkpoint) -> None: ...


def skip_or_stop(run: Run, wrong: str, micro_batches: Mapping[int, Any]) -> None:
    """Skip the step, with `train.nonfinite: skip`, or else end the run.

    Args:
        run: the run; the step has changed nothing yet.
        wrong: what is not finite.
        micro_batches: worker -> its part of the batch, this rank's.

    Raises:
        NonFiniteError: on every rank: the run shall not skip, or it is the `SKIPS`th step in a row.
    """
    step, skipped = run.progress.step, run.progress.skipped
    if run.config.train.nonfinite == "skip":
        skipped.append(step)
        if skipped[-SKIPS:] == list(range(step - SKIPS + 1, step + 1)):
            raise _error(step, f"{wrong}, for the {SKIPS}th step in a row", "")
        run.replica.skip()
        return
    operation = first_operation(run.model, run.objective, micro_batches, seed=run.config.seed, step=step)
    found = next((text for text in run.world.all_gather_json(operation) if text), "")
    raise _error(step, wrong, f" The first operation that made one, in {found}" if found else "")


def roll_back(run: Run, wrong: str) -> None:
    """Return to the newest checkpoint, but not in the data: the next batch is the one after the offending one.

    Raises:
        NonFiniteError: on every rank: the run has returned to that checkpoint `ROLLBACKS` times.
    """
    at, history = run.progress.step, run.progress.rollbacks
    skipped = run.loader.state_dict()
    if run.writer is not None:
        run.writer.wait()
    checkpoints = run.directory / "checkpoints"
    checkpoint = load_latest(checkpoints)[0] if run.world.rank == 0 else None
    found = broadcast_checkpoint(run.world, checkpoint, checkpoints)
    if sum(to == found.step for _, to in history) >= ROLLBACKS:
        raise NonFiniteError(
            f"Step {at}: {wrong}. The run has returned to the checkpoint of step {found.step} {ROLLBACKS} times already, "
            "so it stops here. Lower optimizer.lr or optimizer.clip_norm, or look at the data."
        )
    run.load(found)
    run.loader.load_state_dict(skipped)
    run.progress.rollbacks = [*history, [at, found.step]]


def require_finite_weights(weights: Iterable[np.ndarray[Any, Any]], step: int) -> None:
    """Refuse to save weights that are not finite.

    Args:
        weights: flat arrays.
        step: the number of steps done.

    Raises:
        NonFiniteError: some are NaN or infinite.
    """
    if not all_finite(weights):
        raise NonFiniteError(
            f"After {step} steps some weights are NaN or infinite. They are not saved; the newest checkpoint is from "
            "before. Lower optimizer.lr or optimizer.clip_norm, and resume from it."
        )


def require_finite_metric(name: str, metrics: Mapping[str, float], step: int) -> None:
    """Refuse to go on if the monitored metric is not finite, since no later one could be compared with it.

    Args:
        name: the metric.
        metrics: on the held-out data.
        step: the number of steps done.

    Raises:
        NonFiniteError: it is NaN or infinite.
    """
    if name in non_finite(metrics):
        raise NonFiniteError(
            f"After {step} steps the monitored metric {name} is {metrics[name]} on the held-out data. Look for NaN or infinity "
            "in them, or monitor another metric (train.monitor.metric)."
        )


def _error(step: int, wrong: str, cause: str) -> NonFiniteError:
    """The error that ends a run; `cause` says more about it, in a sentence, or is ""."""
    return NonFiniteError(
        f"Step {step}: {wrong}.{cause} The weights are those of the step before. A lower optimizer.lr or "
        "optimizer.clip_norm may avoid it; train.nonfinite=skip or rollback continues without such a step."
    )


def first_operation(
    model: nn.Module, objective: Callable[[Any], Any], micro_batches: Mapping[int, Any], *, seed: int, step: int
) -> str:
    """The operation that makes the first NaN or infinity in a step, in words; "" if running these workers again makes none.

    The workers run again with the same weights and random numbers. No `.grad` changes, nothing is communicated, and buffers are
    as after the step.

    Args:
        model: the replica's, with the weights that the step began with.
        objective: a worker's loss.
        micro_batches: worker -> its part of the batch.
        seed: of the layers' random numbers.
        step: its number.
    """
    leaves = [parameter.node for parameter in model.parameters() if parameter.node is not None]
    for worker, part in sorted(micro_batches.items()):
        try:
            with detect_anomaly(), nn.random_stream(seed=seed, step=step, worker=worker, model=model):
                loss = objective(part)
                for root in loss.values() if isinstance(loss, dict) else (loss,):
                    pull([root], [np.ones_like(root.value)], leaves, linked=False)
        except AnomalyError as error:
            return f"worker {worker}: {error}"
        except Exception:
            continue
    return ""
