"""Plugins: files and modules, of one name or with neighbours, and what a run records of them."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

import pytest

from allgrad.train.config import registry
from allgrad.train.config.plugins import PluginError, load_plugins, plugin_digests

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = """\
from allgrad.train.config.registry import register_schedule

@register_schedule("{name}")
def schedule(steps):
    return {value}
"""


def write(path: Path, name: str, value: str = "1", first: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(first + PLUGIN.format(name=name, value=value))
    return path


@pytest.fixture(autouse=True)
def imports_as_before():
    """What a test imports from its own directory is forgotten after it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_two_files_of_one_name_are_two_plugins(tmp_path) -> None:
    files = [write(tmp_path / place / "mine.py", f"from_{place}", repr(place)) for place in ("a", "b")]
    load_plugins(files)
    assert [registry.schedules[f"from_{place}"].factory(1) for place in ("a", "b")] == ["a", "b"]


def test_two_files_of_one_name_do_not_replace_each_other(tmp_path) -> None:
    files = [write(tmp_path / place / "mine.py", "same", repr(place)) for place in ("a", "b")]
    with pytest.raises(PluginError, match="schedule 'same' is already registered"):
        load_plugins(files)


def test_a_plugin_may_import_its_neighbours(tmp_path) -> None:
    (tmp_path / "neighbour_of_plugin.py").write_text("VALUE = 7\n")
    load_plugins([write(tmp_path / "mine.py", "neighbour", "VALUE", "from neighbour_of_plugin import VALUE\n")])
    assert registry.schedules["neighbour"].factory(1) == 7


def test_a_neighbour_does_not_replace_an_installed_module(tmp_path) -> None:
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('this is not the standard library')\n")
    sys.modules.pop("colorsys", None)
    load_plugins([write(tmp_path / "mine.py", "shadow", "colorsys.hsv_to_rgb", "import colorsys\n")])
    assert registry.schedules["shadow"].factory(1)(0, 0, 1) == (1, 1, 1)


def test_a_module_of_a_package(tmp_path, monkeypatch) -> None:
    write(tmp_path / "plugins_of_test" / "schedules.py", "from_module")
    (tmp_path / "plugins_of_test" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    load_plugins(["plugins_of_test.schedules"])
    assert registry.schedules["from_module"].factory(1) == 1
    content = (tmp_path / "plugins_of_test" / "schedules.py").read_bytes()
    assert plugin_digests(["plugins_of_test.schedules"]) == {
        "plugins_of_test.schedules": hashlib.sha256(content).hexdigest()
    }


def test_digests_are_of_the_content_and_run_nothing(tmp_path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("raise RuntimeError('this must not run')\n")
    assert plugin_digests([path]) == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    assert plugin_digests([]) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("nowhere.py", "there is no Python file"),
        ("dir/nowhere", "there is no Python file"),
        ("nowhere.at_all", "cannot find the module nowhere.at_all. To load a file, write its path."),
        ("..", "cannot find the module"),
        ("", "cannot find the module"),
        ("a\0b", "cannot find the module"),
    ],
)
def test_what_is_not_there(tmp_path, monkeypatch, given, expected) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (load_plugins, plugin_digests):
        with pytest.raises(PluginError, match=expected):
            use([given])
