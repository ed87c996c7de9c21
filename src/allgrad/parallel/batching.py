"""When a rank runs its virtual workers as one batch.

The same bits, and faster: the forward pass, the gradients of activations and the tape run once, and only what is summed over
samples is computed worker by worker (`nn/batched_workers.py`, `worker_gradients.py`). It is done where it is known to be right:

- every module of the model and the loss declare `rows_independent`;
- the kernels compute a row in the same way whatever the rows around it (`kernels.portable`);
- nothing looks at single workers: no layer communicates across workers, no gradient has a hook, no worker is accumulated over
  several steps.

Otherwise, and if anything raises in the forward pass (so that the message can name the worker), the workers run one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad import kernels, nn
from allgrad.autodiff.engine import OBSERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from allgrad.autodiff.node import Leaf

MOST_TIED = 1 << 24
"""Tied parameters need one gradient per worker: at most so many numbers for all of them."""


def model_reason(model: nn.Module, workers: int) -> str:
    """Why this model's workers run one by one; "" if they can run as one batch.

    Args:
        model: the replica's.
        workers: how many of them this rank runs.
    """
    if workers == 1:
        return "this rank runs one virtual worker"
    portable, why = kernels.portable()
    if not portable:
        return why
    wrong = nn.cannot_batch(model)
    if wrong:
        return f"{wrong} does not declare rows_independent"
    if workers * _tied_size(model) > MOST_TIED:
        return "tied parameters are so large that one gradient per worker would need too much memory"
    return ""


def _tied_size(model: nn.Module) -> int:
    seen: set[int] = set()
    tied = 0
    for module in model.modules():
        for parameter in vars(module).values():
            if isinstance(parameter, nn.Parameter):
                tied += parameter.size if id(parameter) in seen else 0
                seen.add(id(parameter))
    return tied


def step_reason(loss: Callable[[Any], Any], leaves: Iterable[Leaf]) -> str:
    """Why this step needs the workers one by one; "" if it does not."""
    if not getattr(loss, "rows_independent", False):
        return "the loss does not declare rows_independent"
    if any(leaf.hooks for leaf in leaves):
        return "a parameter has a hook on its gradient"
    return "a graph observes the backward pass" if OBSERVERS else ""
