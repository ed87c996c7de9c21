"""The optimizers and learning-rate schedules that a configuration can name, and how they are put together for a model."""

from __future__ import annotations

import fnmatch
import functools
from typing import TYPE_CHECKING, Any

from allgrad import optim
from allgrad.train.config import registry
from allgrad.train.config.errors import ConfigError, Mistake, did_you_mean
from allgrad.train.config.registry import register_optimizer, register_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allgrad import nn
    from allgrad.optim.schedules import Schedule
    from allgrad.train.config.schema import OptimizerSection

__all__ = ["parameter_groups", "schedule_of"]

Groups = list[dict[str, Any]]

# The settings, their limits, and their defaults are those of the classes' signatures.
register_optimizer("sgd")(optim.SGD)
register_optimizer("adam")(optim.Adam)
register_optimizer("adamw")(optim.AdamW)
register_optimizer("lion")(optim.Lion)
register_optimizer("lamb")(optim.LAMB)
register_optimizer("lars")(optim.LARS)
register_optimizer("adafactor")(optim.Adafactor)
register_optimizer("muon")(optim.Muon)


def _of_any_length(schedule: Callable[..., Schedule]) -> Callable[..., Schedule]:
    """A schedule whose class does not take the number of steps, with that argument."""

    @functools.wraps(schedule)
    def make(_steps: int, **options: Any) -> Schedule:
        return schedule(**options)

    return make


register_schedule("constant")(_of_any_length(optim.Constant))
register_schedule("step")(_of_any_length(optim.StepDecay))
register_schedule("cosine")(optim.Cosine)
register_schedule("linear")(optim.Linear)
register_schedule("polynomial")(optim.Polynomial)
register_schedule("one_cycle")(optim.OneCycle)


def parameter_groups(model: nn.Module, no_decay: Sequence[str]) -> tuple[Groups, list[int]]:
    """The optimizer's groups (with and without weight decay), and for each parameter the number of its group.

    Args:
        no_decay: patterns of names, `vectors` standing for all with fewer than two axes.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    named = list(model.named_parameters())
    for pattern in no_decay:
        if pattern != "vectors" and not any(fnmatch.fnmatchcase(name, pattern) for name, _ in named):
            near = did_you_mean(pattern, [name for name, _ in named])
            raise ConfigError([Mistake("optimizer.no_decay", f"{pattern!r} matches no parameter. {near}")])

    def exempt(name: str, ndim: int) -> bool:
        return any(ndim < 2 if pattern == "vectors" else fnmatch.fnmatchcase(name, pattern) for pattern in no_decay)

    decayed = [pair for pair in named if not exempt(pair[0], pair[1].ndim)]
    exempted = [pair for pair in named if exempt(pair[0], pair[1].ndim)]
    if not (decayed and exempted):
        return [{"params": named, **({"weight_decay": 0.0} if exempted else {})}], [0] * len(named)
    numbers = [int(exempt(name, parameter.ndim)) for name, parameter in named]
    return [{"params": decayed}, {"params": exempted, "weight_decay": 0.0}], numbers


def schedule_of(section: OptimizerSection, steps: int, warmup: int) -> Schedule:
    """The configured schedule over `steps`, the first `warmup` of which lead up to it."""
    if section.schedule is None:
        return optim.Constant()
    after: Schedule = registry.schedules.build(section.schedule, max(1, steps - warmup))
    return optim.WarmUp(warmup, after) if warmup else after
