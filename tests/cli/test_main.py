"""The argparse shell: exit codes, words for errors, and what `--help` must not import."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from allgrad.cli import main as cli
from allgrad.errors import AllgradError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], int]], None]:
    """Register a command `probe CONFIG [KEY ...] [--debug]` that runs what it is given."""

    def register(run: Callable[[argparse.Namespace], int]) -> None:
        def configure(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("config")
            parser.add_argument("overrides", nargs="*")
            parser.add_argument("--debug", action="store_true")

        module = ModuleType("allgrad.cli.probe_for_test", "A test's command.")
        module.configure, module.run = configure, run
        monkeypatch.setitem(sys.modules, "allgrad.cli.probe_for_test", module)
        monkeypatch.setitem(cli.COMMANDS, "probe_for_test", "a test's command")

    return register


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        raise error

    return run


def test_options_and_overrides_may_be_mixed(command) -> None:
    seen = []
    command(lambda arguments: seen.append(arguments) or 7)
    assert cli.main(["probe_for_test", "a.yaml", "--debug", "seed=1", "x=2"]) == 7
    assert (seen[0].config, seen[0].overrides, seen[0].debug) == ("a.yaml", ["seed=1", "x=2"], True)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("seed must be a number"), 2, "seed must be a number"),
        (AllgradError("no checkpoint is left"), 1, "no checkpoint is left"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), 1, "No such file or directory: x.yaml"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_users_mistake_is_one_message_and_an_exit_code(command, capsys, error, code, words) -> None:
    command(raising(error))
    assert cli.main(["probe_for_test", "a.yaml"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_the_exit_code_is_the_error_s(command, capsys) -> None:
    class FullDiskError(AllgradError):
        exit_code = 7

    command(raising(FullDiskError("the disk is full")))
    assert cli.main(["probe_for_test", "a.yaml"]) == 7
    assert "the disk is full" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(command) -> None:
    command(raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe_for_test", "a.yaml"])


def test_traceback_option_shows_where_a_users_mistake_arose(command) -> None:
    command(raising(UsageError("no")))
    with pytest.raises(UsageError):
        cli.main(["--traceback", "probe_for_test", "a.yaml"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["dta"], "Did you mean 'data'?"),
        (["nothing-like-it"], "There is no command 'nothing-like-it'. The commands are"),
        (["--colour"], "--colour"),
        (["data"], "NAME"),
        (["data", "mnist"], "'fashion-mnist'"),
        (["data", "moby-dick", "--form", "x"], "--form"),
    ],
)
def test_wrong_usage_is_exit_code_2(argv, words, capsys) -> None:
    assert cli.main(argv) == 2
    assert words in capsys.readouterr().err


def test_a_warning_of_ours_is_a_line_and_the_place_in_others_code_is_kept(command) -> None:
    seen = []

    def warn(arguments: argparse.Namespace) -> int:
        places = (cli.__file__, "/somewhere/users_code.py")
        seen.extend(warnings.formatwarning("look out", RuntimeWarning, place, 3) for place in places)
        return 0

    command(warn)
    before = warnings.formatwarning
    assert cli.main(["probe_for_test", "a.yaml"]) == 0
    assert seen == ["allgrad: warning: look out\n", "/somewhere/users_code.py:3: RuntimeWarning: look out\n"]
    assert warnings.formatwarning is before


def test_what_is_missing_is_named_without_what_need_not_be_there(capsys) -> None:
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err.startswith("allgrad: error: the following arguments are required: CONFIG\n")


def test_without_a_command_the_help_lists_all_of_them(capsys) -> None:
    assert cli.main([]) == 2
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help(name, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: allgrad {name}" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    heavy = [
        "mpi4py",
        "pydantic",
        "rich",
        "yaml",
        "safetensors",
        "torch",
        "scipy",
        "numba",
        "urllib.request",
        "allgrad.kernels",
        "allgrad.nn",
        "allgrad.train",
    ]
    program = (
        "import sys; from allgrad.cli.main import main; main([]); "
        f"found = sorted(set({heavy}) & set(sys.modules)); sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_ends_quietly() -> None:
    program = f"{sys.executable} -m allgrad.cli.main --help | head -c 1"
    done = subprocess.run(["/bin/sh", "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr == ""
