"""Two plugins of one file name overwrote each other without a word; a plugin could not import the file beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from small_run import write_config

from allgrad.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = """\
{first}
from allgrad.train.config.registry import register_schedule

@register_schedule({name!r})
def schedule(steps: int, *, factor: float = {factor}):
    return lambda step: factor
"""


def write(path: Path, name: str, factor: str = "1.0", first: str = "") -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(PLUGIN.format(name=name, factor=factor, first=first))
    return str(path)


def test_two_files_of_one_name_are_two_plugins(tmp_path, capsys) -> None:
    plugins = [
        *("--plugin", write(tmp_path / "one" / "schedules.py", "schedule_one", "0.25")),
        *("--plugin", write(tmp_path / "two" / "schedules.py", "schedule_two", "0.75")),
    ]
    config = str(write_config(tmp_path))
    for name, factor in (("one", "0.25"), ("two", "0.75")):
        schedule = "optimizer.schedule={name: schedule_" + name + "}"
        assert main(["config", config, schedule, *plugins]) == 0
        assert f"factor: {factor}" in capsys.readouterr().out


def test_the_same_name_for_two_components_is_an_error(tmp_path, capsys) -> None:
    plugins = [("--plugin", write(tmp_path / place / "schedules.py", "schedule_same")) for place in ("one", "two")]
    assert main(["config", str(write_config(tmp_path)), *plugins[0], *plugins[1]]) == 2
    assert "schedule 'schedule_same' is already registered" in capsys.readouterr().err


def test_a_plugin_imports_the_file_beside_it(tmp_path, capsys) -> None:
    (tmp_path / "beside_the_plugin.py").write_text("FACTOR = 0.125\n")
    plugin = write(tmp_path / "mine.py", "schedule_beside", "FACTOR", "from beside_the_plugin import FACTOR")
    config = str(write_config(tmp_path))
    assert main(["config", config, "optimizer.schedule={name: schedule_beside}", "--plugin", plugin]) == 0
    assert "factor: 0.125" in capsys.readouterr().out
