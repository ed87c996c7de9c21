"""What the README and docs/numpy.md say about the code is true."""

import re
from pathlib import Path

import pytest

from allgrad.cli.main import COMMANDS
from allgrad.numpy import coverage

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COVERAGE = (ROOT / "docs" / "numpy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "family"), [("NumPy functions", "numpy"), ("`numpy.linalg`", "linalg"), ("`numpy.fft`", "fft")]
)
def test_the_table_of_coverage_is_the_registry(title, family):
    rows = [row for row in coverage() if row.family == family]
    counts = [sum(row.kind == kind for row in rows) for kind in ("differentiated", "constant")]
    assert f"| {title} | {counts[0]} | {counts[1]} |" in COVERAGE
    listed = re.search(rf"\*\*{family}\*\*: ([^.]*)\.", COVERAGE).group(1)
    assert re.split(r",\s+", listed) == sorted(row.name for row in rows if row.kind == "differentiated")


def test_coverage_is_what_was_promised():
    kinds = [(row.family, row.kind) for row in coverage()]
    assert kinds.count(("numpy", "differentiated")) >= 160
    assert kinds.count(("linalg", "differentiated")) >= 20
    assert kinds.count(("fft", "differentiated")) >= 18


def test_every_path_that_is_named_exists():
    named = set(re.findall(r"\b((?:launch|configs|examples|src|tests|docs)/[\w./-]*\w)", README))
    assert {"launch/local.sh", "launch/test.sh", "configs/moby_dick.yaml"} <= named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_command_that_is_named_exists():
    named = set(re.findall(r"`allgrad (\w+)", README))
    assert named <= set(COMMANDS)


def test_the_first_example_runs():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    exec(compile(code, "README.md", "exec"), {})
