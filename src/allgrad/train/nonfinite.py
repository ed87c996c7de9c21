"""NaN and infinity: found before they reach the weights, and never written over a good checkpoint.

After the gradients are reduced, every rank looks at the loss and at the gradients. Exchanges that give every rank the same bits
make them find the same; with any other exchange they agree on it. What happens then is `train.nonfinite`:

- `stop`: the run ends with a `NonFiniteError`; weights and checkpoints are those of the step before. Each rank first runs its
  workers of that step again in anomaly mode, so that the message names the operation that made the first NaN or infinity.
- `skip`: this step changes nothing; at most `SKIPS` such steps in a row.
- `rollback`: back to the newest checkpoint, and on from there with the batches that follow the offending one; at most
  `ROLLBACKS` times to the same checkpoint.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import detect_anomaly, nn
from allgrad.autodiff.engine import pull
from allgrad.autodiff.errors import AnomalyError
from allgrad.errors import NonFiniteError
from allgrad.memory import share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from allgrad.memory import Arena, FlatParameters
    from allgrad.parallel import DataParallel, StepResult

__all__ = [
    "ROLLBACKS",
    "SKIPS",
    "all_finite",
    "describe_non_finite",
    "find_non_finite",
    "first_operation",
    "non_finite_error",
    "note_skipped",
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
    share = share_of(flat.layout, flat.sharing.rank, flat.sharing.ranks, whole=False)
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


def note_skipped(skipped: list[int], step: int, wrong: str) -> None:
    """Note that a step changed nothing.

    Raises:
        NonFiniteError: it is the `SKIPS`th step in a row.
    """
    skipped.append(step)
    if skipped[-SKIPS:] == list(range(step - SKIPS + 1, step + 1)):
        raise non_finite_error(step, f"{wrong}, for the {SKIPS}th step in a row", "")


def non_finite_error(step: int, wrong: str, cause: str) -> NonFiniteError:
    """The error that ends a run.

    Args:
        step: the number of the step.
        wrong: what is not finite.
        cause: more about it, a sentence, or "".
    """
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
