"""Plugins: the user's own Python files or modules that register components, named by `--plugin`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import ModuleType

__all__ = ["PluginError", "load_plugins", "plugin_digests"]


class PluginError(UsageError, RuntimeError):
    """A plugin is missing, fails while it is imported, or declares an option that cannot be used."""


def load_plugins(plugins: Iterable[str | Path]) -> None:
    """Import plugins, so that their decorators register what they define.

    Args:
        plugins: paths of Python files (`my_module.py`) or importable names (`package.module`). A file may import modules
            from its own directory.

    Raises:
        PluginError: a plugin is missing, or raises an exception while it is imported.
    """
    for given in plugins:
        try:
            _load(given)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(
                f"--plugin {given} failed{_line(error, given)}: {type(error).__name__}: {error}"
            ) from error


def plugin_digests(plugins: Iterable[str | Path]) -> dict[str, str]:
    """The SHA-256 of each plugin's file, under the name it was given as. Nothing is imported or run.

    Raises:
        PluginError: a plugin is missing.

    Example:
        >>> list(plugin_digests(["json.tool"]))
        ['json.tool']
    """
    return {str(given): hashlib.sha256(_source(given).read_bytes()).hexdigest() for given in plugins}


def _is_file(given: str | Path) -> bool:
    text = str(given)
    return isinstance(given, Path) or text.endswith(".py") or "/" in text or "\\" in text


def _source(given: str | Path) -> Path:
    """The file that a plugin's code is in."""
    if _is_file(given):
        path = Path(given).expanduser().resolve()
        if path.suffix != ".py" or not path.is_file():
            raise PluginError(f"--plugin {given}: there is no Python file {path}.")
        return path
    with _importable(Path.cwd()):
        found = _module_file(str(given).split("."))
    if found is None:
        raise PluginError(f"--plugin {given}: Python cannot find the module {given}. To load a file, write its path.")
    return found


def _module_file(parts: Sequence[str]) -> Path | None:
    """The file of a module, found without importing the packages that it is in."""
    places: Sequence[str] | None = None  # sys.path
    spec = None
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), places)
        if spec is None:
            return None
        places = spec.submodule_search_locations or []
    return Path(spec.origin) if spec is not None and spec.origin else None


def _load(given: str | Path) -> ModuleType:
    path = _source(given)
    if not _is_file(given):
        with _importable(Path.cwd()):
            return importlib.import_module(str(given))
    # Two files of the same name in different directories are two plugins.
    name = f"allgrad_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """Inside, modules in `directory` can be imported, unless an installed one has the same name."""
    entry = str(directory)
    sys.path.append(entry)  # last: a pydantic.py beside the plugin must not replace the real one
    try:
        yield
    finally:
        sys.path.remove(entry)


def _line(error: Exception, given: str | Path) -> str:
    """The words " at line N", where the error arose in the plugin's own file."""
    if isinstance(error, SyntaxError):
        return f" at line {error.lineno}"
    path, numbers, trace = str(_source(given)), [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            numbers.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" at line {numbers[-1]}" if numbers else ""
