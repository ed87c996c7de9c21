"""What all optimizers share: groups, flat state, which parameters move in a step, saving and loading.

The contract
------------
- Parameters, gradients and every moment are Arenas of one Layout (`optimizer.flat`). A step reads `flat.grads` and
  writes `flat.params` and the state in place. It allocates nothing of the model's size.
- Elementwise optimizers implement `_update_run` and are given the longest contiguous stretches whose parameters share a group and
  a step count; how the memory is cut into stretches does not change a bit.
- Those that need a norm or a matrix set `needs_whole_parameters` and implement `_update_parameter`.
- A parameter without a gradient is skipped: no decay, no moment, no step counted, as in PyTorch (`grad is None`).
  `step()` finds those by itself. Where gradients come from elsewhere (a reduction over workers), `step(unused=names)`
  is told them: exactly the parameters that no worker used.
- `step(within=...)` updates only what lies in the given slice of each flat array: that is all that sharding needs. For
  optimizers that need whole parameters the slices must begin and end between parameters.
- `state_dict()` goes by parameter names. It does not know how many ranks there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from allgrad.memory import Arena, Slot, flatten
from allgrad.optim.groups import Bounds, Group, check_bounds, split_groups

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    Within = Mapping[np.dtype[Any], tuple[int, int]]

Array = np.ndarray[Any, np.dtype[Any]]


class Run(NamedTuple):
    """A contiguous stretch of one dtype's flat arrays whose parameters are at the same step of the same group.

    `views` keeps its slices of the arenas, which never move: in a small model, looking them up costs more than the update.
    """

    group: Group
    dtype: np.dtype[Any]
    start: int
    stop: int
    names: tuple[str, ...]
    views: dict[str, Array]


class Optimizer:
    """Base class of the optimizers.

    Attributes:
        groups: settings, one `Group` for each group that was given; `optimizer.groups[0].lr = 0.1` takes effect at the next step.
        flat: the parameters and gradients that it works on.
        state: name of a moment to its Arena.
        steps: name of a parameter to the number of steps that it has taken.
    """

    needs_whole_parameters: ClassVar[bool] = False
    bounds: ClassVar[Bounds] = {}
    moments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self._title = type(self).__name__
        items, numbers, settings = split_groups(params, defaults, self._title)
        for options in settings:
            self._check(options)
        self.flat = flatten(items, numbers)
        members: list[dict[str, None]] = [{} for _ in settings]
        for item, number in zip(items, numbers, strict=True):
            members[number][self.flat.name_of(item[1] if isinstance(item, tuple) else item)] = None
        self.groups = [Group(names, options) for names, options in zip(members, settings, strict=True)]
        self._group_of = {name: group for group in self.groups for name in group.names}
        self._slots = [slot for slot in self.flat.layout.slots if slot.name in self._group_of]
        for slot in self._slots:
            self._check_slot(slot)
        self.steps = dict.fromkeys((slot.name for slot in self._slots), 0)
        self.state = {moment: Arena(self.flat.layout) for moment in self.moments}
        self._plan: tuple[Any, list[Run]] | None = None

    # -- stepping ------------------------------------------------------------------------------------------------

    def step(self, unused: Collection[str] | None = None, *, within: Within | None = None) -> None:
        """Update the parameters from their gradients, in place.

        Args:
            unused: names of parameters to leave alone. By default those whose leaf has no gradient.
            within: dtype to (start, stop): update only this slice of each flat array (a dtype that is missing: nothing).

        Raises:
            KeyError: if `unused` names a parameter that is not in the model.
            ValueError: if an optimizer that needs whole parameters is given a slice that cuts one.
        """
        skip = self.flat.without_gradient() if unused is None else frozenset(unused)
        if not all(name in self.flat.layout for name in skip):
            raise KeyError(
                f"{self._title}.step: unused names {sorted(set(skip) - set(self.flat.leaves))}, unknown here."
            )
        if self.needs_whole_parameters:
            moved = self._step_parameters(skip, within)
        else:
            moved = self._step_runs(skip, within)
        self.flat.touch(moved)

    def zero_grad(self) -> None:
        """Empty the gradients of this optimizer's parameters: the next backward writes them anew."""
        for name in self.steps:
            self.flat.leaves[name].zero_grad()

    def _step_parameters(self, skip: Collection[str], within: Within | None) -> list[str]:
        moved = []
        for slot in self._slots:
            if slot.name in skip:
                continue
            self.steps[slot.name] += 1
            if _inside(slot, self.flat.layout.end(slot), within, self._title):
                self._update_parameter(self._group_of[slot.name], slot, self.steps[slot.name])
                moved.append(slot.name)
        return moved

    def _step_runs(self, skip: Collection[str], within: Within | None) -> list[str]:
        # The plan of the last step still holds if the same parameters move: all of a run step together.
        key = (frozenset(skip), None if within is None else tuple(within.items()))
        if self._plan is None or self._plan[0] != key:
            self._plan = key, self._runs(skip, within)
        for name in self.steps:
            if name not in skip:
                self.steps[name] += 1
        moved: list[str] = []
        for run in self._plan[1]:
            self._update_run(run, self.steps[run.names[0]])
            moved.extend(run.names)
        return moved

    def _runs(self, skip: Collection[str], within: Within | None) -> list[Run]:
        runs: list[Run] = []
        for dtype in self.flat.layout.dtypes:
            low, high = (0, self.flat.layout.length(dtype)) if within is None else within.get(dtype, (0, 0))
            for slot in self.flat.layout.in_memory_order(dtype):
                start, stop = max(slot.offset, low), min(self.flat.layout.end(slot), high)
                if slot.name not in self._group_of or slot.name in skip or start >= stop:
                    continue
                group, last = self._group_of[slot.name], runs[-1] if runs else None
                joins = last is not None and (last.dtype, last.stop) == (dtype, start) and last.group is group
                if joins and last is not None and self.steps[last.names[0]] == self.steps[slot.name]:
                    runs[-1] = last._replace(stop=stop, names=(*last.names, slot.name))
                else:
                    runs.append(Run(group, dtype, start, stop, (slot.name,), {}))
        return runs

    def _slices(self, run: Run, *moments: str) -> list[Array]:
        """The run's parameters, gradients, and the named moments."""
        views = run.views
        if not views:
            views["params"], views["grads"] = self._slice(run, self.flat.params), self._slice(run, self.flat.grads)
        for moment in moments:
            if moment not in views:
                views[moment] = self._slice(run, self.state[moment])
        return [views["params"], views["grads"], *(views[moment] for moment in moments)]

    def _slice(self, run: Run, arena: Arena) -> Array:
        return arena.flat[run.dtype][run.start : run.stop]

    def _update_run(self, run: Run, step: int) -> None:
        raise NotImplementedError(f"{self._title} does not say how it updates a run.")

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:
        raise NotImplementedError(f"{self._title} does not say how it updates a parameter.")

    # -- checks --------------------------------------------------------------------------------------------------

    def _check(self, options: Mapping[str, Any]) -> None:
        check_bounds(options, self.bounds, self._title)

    def _check_slot(self, slot: Slot) -> None:
        if slot.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{self._title}: parameter {slot.name!r} must be float32 or float64. Got {slot.dtype} instead."
            )

    # -- saving and loading --------------------------------------------------------------------------------------

    def arrays_of(self, name: str) -> dict[str, Array]:
        """The state of one parameter: moment to array, views of what the optimizer works on."""
        return {moment: arena[name] for moment, arena in self.state.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, besides parameters and gradients.

        Returns:
            `{"meta": ..., "arrays": ...}`: `meta` holds only what JSON holds (the optimizer's name, the groups with their
            names and settings, the steps of each parameter); `arrays` maps "moment/parameter" to an array, a view: copy what must
            outlive the next step.
        """
        meta = {
            "optimizer": self._title,
            "groups": [{"names": list(group.names), **_plain(group.options)} for group in self.groups],
            "steps": dict(self.steps),
        }
        arrays = {f"{moment}/{n}": array for n in self.steps for moment, array in self.arrays_of(n).items()}
        return {"meta": meta, "arrays": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`; arrays are copied in.

        Raises:
            ValueError: if it is another optimizer's, its groups hold other parameters, or an array is missing, unexpected, or of
                another shape; each is named. Nothing is changed then.
        """
        meta, arrays = state["meta"], state["arrays"]
        if meta["optimizer"] != self._title:
            raise ValueError(f"{self._title}.load_state_dict: this is the state of {meta['optimizer']}.")
        self._check_groups(meta["groups"])
        self._prepare(meta["groups"])
        mine = self.state_dict()["arrays"]
        wrong = [f"missing {key}" for key in mine if key not in arrays]
        wrong += [f"unexpected {key}" for key in arrays if key not in mine]
        wrong += [
            f"{key} of shape {np.shape(arrays[key])}, expected {array.shape}"
            for key, array in mine.items()
            if key in arrays and np.shape(arrays[key]) != array.shape
        ]
        if wrong:
            raise ValueError(f"{self._title}.load_state_dict: {'; '.join(wrong[:8])}{' ...' if len(wrong) > 8 else ''}")
        for key, array in mine.items():
            array[...] = arrays[key]
        for group, saved in zip(self.groups, meta["groups"], strict=True):
            group.options.update({key: _tupled(value) for key, value in saved.items() if key in group.options})
        self.steps.update({name: int(meta["steps"][name]) for name in self.steps})
        self._plan = None

    def _prepare(self, groups: list[dict[str, Any]]) -> None:
        """Make room for moments that exist only under some settings."""

    def _check_groups(self, saved: list[dict[str, Any]]) -> None:
        for number, (group, other) in enumerate(zip(self.groups, saved, strict=False)):
            if sorted(group.names) != sorted(other["names"]):
                odd = sorted(set(group.names) ^ set(other["names"]))
                raise ValueError(
                    f"{self._title}.load_state_dict: group {number} holds other parameters than the saved one: "
                    f"{', '.join(odd[:8])}."
                )
        if len(saved) != len(self.groups):
            raise ValueError(
                f"{self._title}.load_state_dict: expected {len(self.groups)} groups. Got {len(saved)} instead."
            )

    def __repr__(self) -> str:
        return f"{self._title}({', '.join(map(repr, self.groups))})"


def _inside(slot: Slot, end: int, within: Within | None, title: str) -> bool:
    if within is None:
        return True
    start, stop = within.get(slot.dtype, (0, 0))
    if start <= slot.offset and end <= stop:
        return True
    if slot.offset < stop and start < end and start < stop:
        raise ValueError(
            f"{title}.step: needs whole parameters, and the slice [{start}, {stop}) cuts {slot.name!r}, which lies in "
            f"[{slot.offset}, {end}). Shard at parameter boundaries."
        )
    return False


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
