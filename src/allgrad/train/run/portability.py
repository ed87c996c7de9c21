"""Whether a run's bits are the same on every CPU with fused multiply-add, at any thread count; and if not, why.

Nothing is assumed. What can be known before the first step is collected there: the set of kernels, the exchange of gradients,
and the source of components that do not come with allgrad. The first step is watched: every operation that the workers of this
rank record, forward and backward, must be one whose bits no CPU changes. The ranks then put their reasons together. Only if the
run is not portable are their CPUs compared, since only then do they matter.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allgrad import kernels
from allgrad.autodiff.recorded import recorded_operations
from allgrad.train.config import registry
from allgrad.train.run.plugin_source import source_reasons
from allgrad.train.run.portable_operations import not_portable
from allgrad.train.run.provenance import hardware

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from allgrad.comm import World
    from allgrad.parallel.exchanges import Exchange
    from allgrad.train.config.schema import RunConfig

__all__ = ["Portability"]


class Portability:
    """What stands in the way of portable bits; see the top of this file.

    Args:
        config: the run's.
        exchange: of its gradients.
        earlier: the reasons that earlier parts of a resumed run had.

    Attributes:
        reasons: why the bits depend on the CPU. Complete once `settle` was called.
        settled: whether it was.
    """

    def __init__(self, config: RunConfig, exchange: Exchange, earlier: list[str]) -> None:
        self.reasons = [*earlier]
        self.settled = False
        holds, why = kernels.portable()
        if not holds:
            self._add(why)
        if not exchange.same_bits:
            self._add(f"parallel.reduction: {config.parallel.reduction.name} adds in an order that is not fixed")
        for reason in _component_reasons(config):
            self._add(reason)

    def watch(self) -> AbstractContextManager[Any]:
        """A context for the first step, in which operations are noted; for later steps it does nothing."""
        return nullcontext() if self.settled else self._watched()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        with recorded_operations() as found:
            yield
        if names := not_portable(found):
            which = ", ".join(names)
            self._add(f"the model or the loss computes {which} outside of allgrad.nn, with bits that depend on the CPU")

    def settle(self, world: World) -> None:
        """After the first step: take over the other ranks' reasons, and warn if CPUs differ where they matter. Once."""
        if self.settled:
            return
        self.settled = True
        for reasons in world.all_gather_json(self.reasons):
            for reason in reasons:
                self._add(reason)
        if self.reasons and world.size > 1:
            properties = hardware()
            world.verify(properties, tolerate=properties)

    def summary(self) -> dict[str, Any]:
        """For `summary.json`."""
        if not self.settled:
            return {"portable": None, "not_portable_because": ["no step was run"]}
        return {"portable": not self.reasons, "not_portable_because": self.reasons}

    def _add(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)


def _component_reasons(config: RunConfig) -> list[str]:
    """What the source of components from outside of allgrad has against it. Metrics and loggers change no weight."""
    used = [(registry.models, config.model), (registry.datasets, config.data), (registry.losses, config.loss)]
    used += [(registry.optimizers, config.optimizer), (registry.exchanges, config.parallel.reduction)]
    if config.optimizer.schedule is not None:
        used.append((registry.schedules, config.optimizer.schedule))
    used += [(registry.callbacks, section) for section in config.train.callbacks]
    modules = {kind[section.name].factory.__module__ for kind, section in used}
    return [reason for name in sorted(modules) if not name.startswith("allgrad.") for reason in _module_reasons(name)]


def _module_reasons(name: str) -> list[str]:
    module = sys.modules.get(name)
    try:
        file = Path(inspect.getsourcefile(module) or "") if module is not None else Path()
        return source_reasons(file.name, file.read_text(encoding="utf-8"))
    except (OSError, TypeError, SyntaxError, ValueError):
        return [f"the source of {name}, which registers a component, cannot be read"]
