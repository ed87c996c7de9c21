"""The base class of optimizers: groups, flat state, which parameters move in a step, saving and loading.

The contract
------------
- Parameters, gradients, and moments are Arenas of one Layout (`optimizer.flat`). A step reads `flat.grads` and writes
  `flat.params` and the moments in place. It allocates nothing of the model's size.
- A subclass declares its settings in the signature of `__init__` (see `settings.py`) and its state in `moments`.
- Elementwise optimizers implement `_update_run`, which gets the longest contiguous stretches of memory whose parameters
  share a group and a step count. How the memory is cut into stretches does not change a bit.
- Optimizers that need a norm or a matrix set `needs_whole_parameters` and implement `_update_parameter`.
- A parameter without a gradient is skipped: no decay, no moment, no step counted, as in PyTorch (`grad is None`).
  `step()` finds those parameters itself. If the gradients come from elsewhere (a reduction over workers), the caller passes
  `step(unused=names)`: the parameters that no worker used.
- In memory that the ranks of a node share, a step updates this rank's share only, between two barriers (`memory/sharing.py`).
  All ranks call it together.
- `step(within=...)` updates only the given slices of each flat array, which is all that sharding needs. For optimizers that
  need whole parameters, a slice must begin and end between parameters.
- `state_dict()` is keyed by parameter names and does not depend on the number of ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from allgrad.memory import flatten
from allgrad.optim.groups import Group, split_groups
from allgrad.optim.settings import declared
from allgrad.optim.state import load_arrays, plain_options
from allgrad.stateful import StateError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from allgrad.memory import Arena, Slot

    Within = Mapping[np.dtype[Any], Sequence[tuple[int, int]]]

Array = np.ndarray[Any, np.dtype[Any]]


class Run(NamedTuple):
    """A contiguous stretch of one dtype's flat arrays whose parameters share a group and a step count.

    `views` caches the slices of the arenas, which never move: in a small model, slicing costs more than the update.
    """

    group: Group
    dtype: np.dtype[Any]
    start: int
    stop: int
    names: tuple[str, ...]
    views: dict[tuple[str, ...], list[Array]]


class _Plan(NamedTuple):
    """What a step does, which is the same in the next step if its key is: (sharing, parameters to skip, slices).

    `names` are the parameters whose step counts, also those of which only other ranks move a part.
    """

    key: tuple[Any, ...]
    names: tuple[str, ...]
    runs: list[Run]


class OptimizerState(NamedTuple):
    """What an optimizer keeps between steps, apart from its settings.

    Attributes:
        moments: parameter -> moment -> array.
        steps: parameter -> the number of steps it has taken.
    """

    moments: dict[str, dict[str, Array]]
    steps: dict[str, int]

    def arrays(self) -> list[Array]:
        """All moments, in order of registration."""
        return [array for moments in self.moments.values() for array in moments.values()]


class Optimizer:
    """Base class of the optimizers.

    A new optimizer is one class: settings in the signature, state in `moments`, and one method for the update.

    Attributes:
        groups: the settings, one `Group` for each group that was passed.
        flat: the parameters and gradients that the optimizer works on.
        state: name of a moment to its Arena.
        steps: name of a parameter to the number of steps it has taken.

    Example:
        >>> import numpy as np
        >>> import allgrad as ag
        >>> from allgrad.optim import Optimizer
        >>> class SignSGD(Optimizer):
        ...     def __init__(self, params, *, lr: float = 0.1):
        ...         super().__init__(params, locals())
        ...
        ...     def _update_run(self, run, step):
        ...         params, grads = self._slices(run)
        ...         params -= run.group.lr * np.sign(grads)
        >>> w = ag.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = SignSGD([w])
        >>> np.sum(w * w).backward()
        >>> optimizer.step()
        >>> w.tolist()
        [0.9, -1.9]
    """

    needs_whole_parameters: ClassVar[bool] = False
    moments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Any], settings: Mapping[str, Any]) -> None:
        """Args:
        params: a Module, leaves, (name, leaf) pairs, or groups `{"params": ..., "lr": ...}`.
        settings: the `locals()` of the subclass's `__init__`.
        """
        self._title = type(self).__name__
        annotations = declared(type(self))
        defaults = {name: value for name, value in settings.items() if name in annotations}
        items, numbers, options = split_groups(params, defaults, annotations, self._title)
        for each in options:
            self._check(each)
        self.flat = flatten(items, numbers)
        members: list[dict[str, None]] = [{} for _ in options]
        for item, number in zip(items, numbers, strict=True):
            members[number][self.flat.name_of(item[1] if isinstance(item, tuple) else item)] = None
        self.groups = [Group(names, each, annotations) for names, each in zip(members, options, strict=True)]
        self._group_of = {name: group for group in self.groups for name in group.names}
        self._slots = [slot for slot in self.flat.layout.slots if slot.name in self._group_of]
        for slot in self._slots:
            self._check_slot(slot)
        self.steps = dict.fromkeys((slot.name for slot in self._slots), 0)
        self.state = {moment: self.flat.new_arena() for moment in self.moments}
        self._plan: _Plan | None = None

    # Stepping.

    def step(self, unused: Collection[str] | None = None, *, within: Within | None = None) -> None:
        """Update the parameters from their gradients, in place.

        Args:
            unused: names of parameters to leave unchanged. By default those whose leaf has no gradient.
            within: dtype to slices (start, stop), in order: update only these of each flat array, and nothing of a missing
                dtype.

        Raises:
            KeyError: if `unused` names a parameter that is not in the model.
            ValueError: if an optimizer that needs whole parameters gets a slice that cuts one.
        """
        flat = self.flat
        skip = flat.without_gradient() if unused is None else frozenset(unused)
        if skip and not all(name in flat.layout for name in skip):
            unknown = sorted(set(skip) - set(flat.leaves))
            raise KeyError(f"{self._title}.step: there are no parameters named {unknown} (argument `unused`).")
        shared = flat.sharing.ranks > 1
        if shared:
            self.make_moments()  # on every rank together, also on those that have nothing to update
            if within is None:
                share = flat.own_share(whole=self.needs_whole_parameters)
                within = {dtype: [part] for dtype, part in share.items()}
        if self.needs_whole_parameters:
            with flat.writing():
                moved = self._step_parameters(skip, within)
        else:
            with flat.updating():
                moved = self._step_runs(skip, within)
        # In shared memory other ranks have moved the other parameters.
        flat.touch([name for name in self.steps if name not in skip] if shared else moved)

    def zero_grad(self) -> None:
        """Empty the gradients of this optimizer's parameters; the next backward pass writes them anew."""
        nodes = self.flat.nodes
        for name in self.steps:
            nodes[name].clear()

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
        # The runs of the last step still hold if the same parameters move, since all parameters of a run step together.
        slices = None if within is None else tuple((d, tuple(s)) for d, s in within.items())
        key = (self.flat.sharing, skip, slices)
        steps, plan = self.steps, self._plan
        if plan is None or plan.key != key:
            names = tuple(name for name in steps if name not in skip)
            plan = self._plan = _Plan(key, names, self._runs(skip, within))
        for name in plan.names:
            steps[name] += 1
        moved: list[str] = []
        for run in plan.runs:
            self._update_run(run, steps[run.names[0]])
            moved += run.names
        return moved

    def _runs(self, skip: Collection[str], within: Within | None) -> list[Run]:
        runs: list[Run] = []
        for dtype in self.flat.layout.dtypes:
            slices = [(0, self.flat.layout.length(dtype))] if within is None else within.get(dtype, ())
            for low, high, slot in (
                (*each, slot) for each in slices for slot in self.flat.layout.in_memory_order(dtype)
            ):
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
        """The run's parameters, gradients, and the named moments: one-dimensional views."""
        views = run.views.get(moments)
        if views is None:
            arenas = (self.flat.params, self.flat.grads, *(self._arena(moment) for moment in moments))
            views = run.views[moments] = [self._slice(run, arena) for arena in arenas]
        return views

    def _slice(self, run: Run, arena: Arena) -> Array:
        return arena.flat[run.dtype][run.start : run.stop]

    def _arena(self, moment: str) -> Arena:
        """The Arena of a moment, made at its first use."""
        if moment not in self.state:
            self.state[moment] = self.flat.new_arena()
        return self.state[moment]

    def make_moments(self) -> None:
        """Make the moments that the groups' settings ask for, and that would be made at their first use."""
        for group in self.groups:
            for name in group.names[:1]:
                self.moments_of(name, group.options)

    def _update_run(self, run: Run, step: int) -> None:
        """Move the run's parameters by one step, the `step`-th of each (from 1)."""
        raise NotImplementedError(f"{self._title} does not define _update_run.")

    def _update_parameter(self, group: Group, slot: Slot, step: int) -> None:
        """Move one parameter by one step, its `step`-th (from 1)."""
        raise NotImplementedError(f"{self._title} does not define _update_parameter.")

    # Several sets of weights that share one optimizer.

    def live_state(self) -> OptimizerState:
        """The moments and step counts that the next step uses: the optimizer's own memory."""
        return OptimizerState({name: self._moments(name) for name in self.steps}, self.steps)

    def new_state(self) -> OptimizerState:
        """Another state, that of an optimizer that has made no step."""
        moments = {name: {key: np.zeros_like(a) for key, a in self._moments(name).items()} for name in self.steps}
        return OptimizerState(moments, dict.fromkeys(self.steps, 0))

    def swap_state(self, other: OptimizerState) -> None:
        """Exchange the contents of the optimizer's state and of `other`."""
        live = self.live_state()
        for mine, theirs in zip(live.arrays(), other.arrays(), strict=True):
            kept = mine.copy()
            mine[...] = theirs
            theirs[...] = kept
        for name, steps in other.steps.items():
            other.steps[name], self.steps[name] = self.steps[name], steps
        self.forget_plan()

    def forget_plan(self) -> None:
        """Step counts have changed: which parameters step together is found anew."""
        self._plan = None

    # Checks.

    def _check(self, options: Mapping[str, Any]) -> None:
        """Raise SettingError for settings that do not fit together. Each one's type and range are checked already."""

    def _check_slot(self, slot: Slot) -> None:
        if slot.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{self._title}: parameter {slot.name!r} must be float32 or float64. Got {slot.dtype} instead."
            )

    # Saving and loading.

    def moments_of(self, name: str, options: Mapping[str, Any]) -> dict[str, Array]:
        """The state of one parameter under the given settings: moment to array, views of what the optimizer works on."""
        del options  # of use to subclasses whose state depends on their settings
        return {moment: self._arena(moment)[name] for moment in self.moments}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, apart from parameters and gradients. See `allgrad.stateful`.

        Returns:
            optimizer: the name of the class;
            groups: for each group the names of its parameters and its settings;
            parameters: for each parameter its number of steps and, by moment, its arrays (copies).
        """
        return self.state_dict_of(self.live_state())

    def state_dict_of(self, state: OptimizerState) -> dict[str, Any]:
        """The `state_dict` that this optimizer would have with other moments and step counts."""
        return {
            "optimizer": self._title,
            "groups": [{"names": list(group.names), **plain_options(group.options)} for group in self.groups],
            "parameters": {
                name: {"steps": steps, **{key: array.copy() for key, array in state.moments[name].items()}}
                for name, steps in state.steps.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`; its arrays are copied.

        Raises:
            StateError: if the state belongs to another optimizer, its groups hold other parameters, or an array is missing,
                unexpected, or has another shape. The message names each. Nothing is changed in that case.
        """
        where = f"{self._title}.load_state_dict"
        if state["optimizer"] != self._title:
            raise StateError(f"{where}: this is the state of {state['optimizer']}.")
        self._check_groups(state["groups"], where)
        settings = [{**group.options, **saved} for group, saved in zip(self.groups, state["groups"], strict=True)]
        mine = {
            f"{name}/{moment}": array
            for group, options in zip(self.groups, settings, strict=True)
            for name in group.names
            for moment, array in self.moments_of(name, options).items()
        }
        saved = {
            f"{name}/{moment}": array
            for name, entries in state["parameters"].items()
            for moment, array in entries.items()
            if moment != "steps"
        }
        load_arrays(where, mine, saved)
        for group, options in zip(self.groups, settings, strict=True):
            for key in group.options:
                setattr(group, key, options[key])
        self.steps.update({name: int(state["parameters"][name]["steps"]) for name in self.steps})
        self.forget_plan()

    def _moments(self, name: str) -> dict[str, Array]:
        return self.moments_of(name, self._group_of[name].options)

    def _check_groups(self, saved: list[dict[str, Any]], where: str) -> None:
        if len(saved) != len(self.groups):
            raise StateError(f"{where}: expected {len(self.groups)} groups. Got {len(saved)} instead.")
        for number, (group, other) in enumerate(zip(self.groups, saved, strict=True)):
            if odd := sorted(set(group.names) ^ set(other["names"])):
                raise StateError(
                    f"{where}: group {number} and the saved one do not hold the same parameters. They differ in "
                    f"{', '.join(odd[:8])}."
                )

    def __repr__(self) -> str:
        return f"{self._title}({', '.join(map(repr, self.groups))})"


def _inside(slot: Slot, end: int, within: Within | None, title: str) -> bool:
    if within is None:
        return True
    for start, stop in within.get(slot.dtype, ()):
        if start <= slot.offset and end <= stop:
            return True
        if slot.offset < stop and start < end and start < stop:
            raise ValueError(
                f"{title}.step needs whole parameters, but the slice [{start}, {stop}) cuts {slot.name!r}, which occupies "
                f"[{slot.offset}, {end}). Shard at parameter boundaries."
            )
    return False
