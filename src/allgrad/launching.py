"""`allgrad.launch`: a function on several ranks, from a notebook cell or a script.

    def train(rate):
        world = comm.init()
        ...
        return world.rank, loss

    results = allgrad.launch(train, 1e-3, ranks=4)      # [(0, 0.31), (1, 0.31), ...]

The ranks are new processes that mpirun starts, and nothing is pickled. A function that a module on sys.path defines is imported
there. One of a notebook or of the script that runs is sent as its source, with the globals that it names: modules and what
they define by an import, functions and classes of the notebook by their source, numbers, texts, lists, dicts and arrays by
their values. Arguments and results are such values as well. Anything else is refused by name.

A job of one rank has the same bits as one of several (`parallel.DataParallel`), so what fails can be debugged by calling the
function itself, here.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import tempfile
import textwrap
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.errors import AllgradError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LaunchedError", "launch"]

_PROGRAM, _ARGUMENTS, _FAILURE, _NAME = "program.py", "arguments", "failure.txt", "_allgrad_function"


class LaunchedError(AllgradError, RuntimeError):
    """A function failed on a rank; the message holds what that rank said."""


def launch(function: Callable[..., Any], *arguments: Any, ranks: int | None = None) -> list[Any]:
    """Call `function(*arguments)` on every rank of a new job, and return the results by rank.

    Args:
        function: see the top of this file.
        arguments: numbers, texts, None, arrays, and lists, tuples and dicts of them (a tuple arrives as a list).
        ranks: how many; None: one per physical core that this process may use.

    Returns:
        What the function returned on rank 0, 1, ...; of the same types as arguments.

    Raises:
        UsageError: the function, an argument or a result cannot be sent, or this process is itself a rank.
        LaunchedError: the function raised, or a rank died. The other ranks have ended as well.
        KeyboardInterrupt: Ctrl-C, or the notebook's stop button; all ranks have ended.

    Example:
        >>> def rank_and_sum(x):
        ...     from allgrad import comm
        ...     world = comm.init()
        ...     return world.rank, float(x.sum())
        >>> launch(rank_and_sum, np.ones(3), ranks=2)  # doctest: +SKIP
        [[0, 3.0], [1, 3.0]]
    """
    from allgrad.cli.job import run_command
    from allgrad.cli.mpirun import job_command, job_environment
    from allgrad.comm import cores, launcher

    if launcher.detect(os.environ):
        raise UsageError("allgrad.launch starts a job of its own, but this process is a rank of one already.")
    count = ranks or max(1, int(min(cores.physical_cores(cores.affinity()), cores.quota())))
    with tempfile.TemporaryDirectory(prefix=f"allgrad-launch-{os.getpid()}-") as name:
        directory = Path(name)
        values: dict[str, Any] = {}
        (directory / _PROGRAM).write_text(program_of(function, values), encoding="utf-8")
        _write(directory / _ARGUMENTS, {"arguments": list(arguments), "globals": values}, "an argument or a global")
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        environment = job_environment() | {"PYTHONPATH": path}
        command = job_command(count, "allgrad.launching", str(directory))
        code, asked, last_words = run_command(command, environment, directory / "outcome.json", saves=False)
        if asked:
            raise KeyboardInterrupt
        places = [_result(directory, rank) for rank in range(count)]
        if code or not all(place.with_suffix(".json").exists() for place in places):
            failure = directory / _FAILURE
            text = failure.read_text(encoding="utf-8") if failure.exists() else last_words
            raise LaunchedError(f"The job of {count} ranks failed (exit code {code}). {text.strip()}")
        return [_read(place) for place in places]


def program_of(function: Callable[..., Any], values: dict[str, Any]) -> str:
    """A program that defines `function` under the name that ranks call.

    Args:
        function: what is to be defined.
        values: receives the plain values that the program expects as globals.

    Raises:
        UsageError: it cannot be sent.
    """
    if not inspect.isfunction(function):
        raise UsageError(f"allgrad.launch calls a Python function, but got {function!r}. Wrap it in a `def`.")
    seen: dict[str, str] = {}
    _define(function.__name__, function, seen, values)
    return "from __future__ import annotations\n\n" + "\n".join(seen.values()) + f"\n{_NAME} = {function.__name__}\n"


def _define(name: str, value: Any, seen: dict[str, str], values: dict[str, Any]) -> None:
    """Add to `seen` what defines the global `name`, after everything that it needs."""
    if name in seen or name in values:
        return
    if isinstance(value, types.ModuleType):
        seen[name] = f"import importlib; {name} = importlib.import_module({value.__name__!r})"
    elif _importable(value):
        seen[name] = f"from {value.__module__} import {value.__name__} as {name}"
    elif inspect.isfunction(value) or inspect.isclass(value):
        _define_by_source(name, value, seen, values)
    else:
        _encode(value, {}, f"the global {name!r}")  # refuses what cannot be sent
        values[name] = value


def _define_by_source(name: str, value: Any, seen: dict[str, str], values: dict[str, Any]) -> None:
    try:
        source = textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError) as error:
        raise UsageError(f"allgrad.launch: the source of {name!r} cannot be found ({error}).") from error
    if not source.lstrip().startswith(("def ", "class ", "@")):
        raise UsageError(f"allgrad.launch: {name!r} must be defined by `def` or `class`, not inside an expression.")
    seen[name] = ""  # so that what names each other ends
    for code in _codes(value):
        if code.co_freevars and inspect.isfunction(value) and code is value.__code__ and value.__closure__:
            free = ", ".join(code.co_freevars)
            raise UsageError(
                f"allgrad.launch: {name!r} uses local variables of the function around it: {free}. Pass them as arguments."
            )
    for used, found in _globals_of(value):
        _define(used, found, seen, values)
    seen[name] = seen.pop(name) + source  # after what it needs


def _importable(value: Any) -> bool:
    """Whether the ranks can import it: a function or class at the top of a module that has a file."""
    name = getattr(value, "__module__", None)
    module = sys.modules.get(name or "")
    if module is None or name == "__main__" or getattr(value, "__qualname__", None) != getattr(value, "__name__", ""):
        return False
    return getattr(module, value.__name__, None) is value and bool(getattr(module, "__spec__", None))


def _codes(value: Any) -> Iterator[types.CodeType]:
    """The code of a function, or of a class's methods, with all code inside it."""
    if inspect.isfunction(value):
        stack = [value.__code__]
    else:
        stack = [member.__code__ for member in vars(value).values() if inspect.isfunction(member)]
    while stack:
        code = stack.pop()
        yield code
        stack += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def _globals_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The globals that its source names, in any of its code; bases, decorators and defaults among them."""
    space = value.__globals__ if inspect.isfunction(value) else vars(sys.modules[value.__module__])
    top = compile(textwrap.dedent(inspect.getsource(value)), "<launched>", "exec")
    names = dict.fromkeys(top.co_names)
    for code in (*_codes(value), *(c for c in top.co_consts if isinstance(c, types.CodeType))):
        names |= dict.fromkeys(code.co_names)
    for name in names:
        if name in space and space[name] is not value:
            yield name, space[name]


# Values: JSON, with arrays beside it.


def _encode(value: Any, arrays: dict[str, Any], what: str) -> Any:
    """A value as JSON holds it; arrays are put into `arrays`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        arrays[str(len(arrays))] = value
        return {"array": len(arrays) - 1}
    if isinstance(value, list | tuple):
        return [_encode(item, arrays, what) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encode(item, arrays, what) for key, item in value.items()}}
    raise UsageError(
        f"allgrad.launch: {what} is or holds an object of type {type(value).__name__}, which cannot be sent. Numbers, texts, "
        "None, NumPy arrays, and lists and dicts of them can; make other objects inside the function."
    )


def _decode(value: Any, arrays: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if isinstance(value, dict) and "array" in value:
        return arrays[str(value["array"])]
    if isinstance(value, dict):
        return {key: _decode(item, arrays) for key, item in value["dict"].items()}
    return value


def _write(place: Path, value: Any, what: str) -> None:
    """Write a value as PLACE.npz and PLACE.json, which comes last."""
    arrays: dict[str, Any] = {}
    text = json.dumps(_encode(value, arrays, what))
    np.savez(place.with_suffix(".npz"), **arrays)
    place.with_suffix(".json").write_text(text)


def _read(place: Path) -> Any:
    with np.load(place.with_suffix(".npz"), allow_pickle=False) as arrays:
        return _decode(json.loads(place.with_suffix(".json").read_text()), arrays)


def _result(directory: Path, rank: int) -> Path:
    return directory / f"result-{rank:06d}"


def _run_rank(directory: Path) -> None:
    """What each rank runs."""
    from allgrad import comm
    from allgrad.train.run.directory import failure_writer

    world = comm.init()
    world.on_failure = failure_writer(directory)
    given = _read(directory / _ARGUMENTS)
    file = directory / _PROGRAM
    module = types.ModuleType("__allgrad_launched__")
    module.__dict__.update(given["globals"], __file__=str(file))
    sys.modules[module.__name__] = module
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), module.__dict__)
    value = module.__dict__[_NAME](*given["arguments"])
    _write(_result(directory, world.rank), value, f"the result of rank {world.rank}")
    world.barrier()


if __name__ == "__main__":
    _run_rank(Path(sys.argv[1]))
