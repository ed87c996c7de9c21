"""The optimizers and learning-rate schedules that a configuration can name, and how they are put together for a model."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from allgrad import optim
from allgrad.train.config import registry
from allgrad.train.config.registry import register_optimizer, register_schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad import nn
    from allgrad.optim.schedules import Schedule
    from allgrad.train.config.schema import OptimizerSection

__all__ = ["adafactor", "adam", "adamw", "lamb", "lars", "lion", "muon", "parameter_groups", "schedule_of", "sgd"]

Decay = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Small = Annotated[float, Field(gt=0)]
Groups = list[dict[str, Any]]


@register_optimizer("sgd")
def sgd(groups: Groups, *, lr: float, momentum: Beta = 0.0, nesterov: bool = False, weight_decay: Decay = 0.0) -> Any:
    """Stochastic gradient descent, with momentum if asked for."""
    return optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


@register_optimizer("adam")
def adam(
    groups: Groups, *, lr: float, betas: tuple[Beta, Beta] = (0.9, 0.999), eps: Small = 1e-8, weight_decay: Decay = 0.0
) -> Any:
    """Adam; weight decay is added to the gradient."""
    return optim.Adam(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


@register_optimizer("adamw")
def adamw(
    groups: Groups, *, lr: float, betas: tuple[Beta, Beta] = (0.9, 0.999), eps: Small = 1e-8, weight_decay: Decay = 0.01
) -> Any:
    """Adam with decoupled weight decay."""
    return optim.AdamW(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


@register_optimizer("lion")
def lion(groups: Groups, *, lr: float, betas: tuple[Beta, Beta] = (0.9, 0.99), weight_decay: Decay = 0.0) -> Any:
    """The sign of a momentum."""
    return optim.Lion(groups, lr=lr, betas=betas, weight_decay=weight_decay)


@register_optimizer("lamb")
def lamb(
    groups: Groups, *, lr: float, betas: tuple[Beta, Beta] = (0.9, 0.999), eps: Small = 1e-6, weight_decay: Decay = 0.0
) -> Any:
    """Adam with a trust ratio a layer, for large batches."""
    return optim.LAMB(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


@register_optimizer("lars")
def lars(groups: Groups, *, lr: float, momentum: Beta = 0.9, weight_decay: Decay = 0.0, trust: Small = 0.001) -> Any:
    """Momentum with a trust ratio a layer, for large batches."""
    return optim.LARS(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust)


@register_optimizer("adafactor")
def adafactor(groups: Groups, *, lr: float, weight_decay: Decay = 0.0) -> Any:
    """Second moments of matrices kept as a row and a column."""
    return optim.Adafactor(groups, lr=lr, weight_decay=weight_decay)


@register_optimizer("muon")
def muon(groups: Groups, *, lr: float, momentum: Beta = 0.95, nesterov: bool = True, weight_decay: Decay = 0.1) -> Any:
    """Momentum whose matrices are orthogonalised; for models of matrices only."""
    return optim.Muon(groups, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


@register_schedule("constant")
def constant(steps: int) -> Any:  # noqa: ARG001 (every schedule is told)
    """The peak rate throughout."""
    return optim.Constant()


@register_schedule("cosine")
def cosine(steps: int, *, final: Annotated[float, Field(ge=0, le=1)] = 0.0) -> Any:
    """Half a cosine from the peak rate to `final` times it."""
    return optim.Cosine(max(steps, 1), final)


@register_schedule("linear")
def linear(steps: int, *, final: Annotated[float, Field(ge=0, le=1)] = 0.0) -> Any:
    """A straight line from the peak rate to `final` times it."""
    return optim.Linear(max(steps, 1), final)


@register_schedule("polynomial")
def polynomial(steps: int, *, power: Small = 2.0, final: Annotated[float, Field(ge=0, le=1)] = 0.0) -> Any:
    """(1 - step / steps)^power, from the peak rate to `final` times it."""
    return optim.Polynomial(max(steps, 1), power, final)


@register_schedule("step")
def step_decay(steps: int, *, every: Annotated[int, Field(ge=1)], gamma: Small = 0.1) -> Any:  # noqa: ARG001
    """Times `gamma` every `every` steps."""
    return optim.StepDecay(every, gamma)


@register_schedule("one_cycle")
def one_cycle(
    steps: int, *, peak: Annotated[float, Field(ge=0, le=1)] = 0.3, divide: Small = 25.0, final_divide: Small = 1e4
) -> Any:
    """Up to the peak rate after the fraction `peak` of the run, and down again."""
    return optim.OneCycle(max(steps, 1), peak, divide, final_divide)


def parameter_groups(model: nn.Module, no_decay: Sequence[str]) -> tuple[Groups, list[int]]:
    """The optimizer's groups (with and without weight decay), and for each parameter the number of its group.

    Args:
        no_decay: patterns of names, `vectors` standing for all with fewer than two axes.
    """
    named = list(model.named_parameters())

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
    after: Schedule = registry.schedules.build(section.schedule, steps - warmup)
    return optim.WarmUp(warmup, after) if warmup else after
