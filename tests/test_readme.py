"""What the README and docs/numpy.md say about the code is true."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

import allgrad
from allgrad.cli.main import COMMANDS, main
from allgrad.numpy import coverage

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
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


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A directory with a small table, its configuration, and a run, as a reader of "Use the result" has them."""
    place = tmp_path_factory.mktemp("readme")
    (place / "rows.csv").write_text(
        "\n".join(["area,heating,price", *(f"{n},{'gas' if n % 2 else 'oil'},{n}" for n in range(40))])
    )
    (place / "table.yaml").write_text(
        "model: {name: mlp, hidden: [4]}\nloss: mse\nbatch: {size: 8}\noptimizer: {name: adam, lr: 0.01}\ntrain: {steps: 2}\n"
        "data: {name: csv, path: rows.csv, target: price, numeric: auto, categorical: [heating]}\n"
    )
    assert main(["train", str(place / "table.yaml"), f"run.dir={place / 'RUN'}"]) == 0
    return place


def item(number: int) -> str:
    """One of the ten things, on one line."""
    return " ".join(re.search(rf"\*\*{number}\. .*?(?=\n\n)", README, re.DOTALL).group(0).split())


def test_the_result_is_used_as_the_readme_says(used, monkeypatch):
    monkeypatch.chdir(used)
    said = re.findall(r"`([^`]+)`", item(8))
    commands = [shlex.split(line)[1:] for line in said if line.startswith("allgrad ")]
    assert [words[0] for words in commands] == ["predict", "export", "eval", "sample", "digest"]
    for words in commands:
        if words[0] == "export" and not (find_spec("onnx") and find_spec("onnxruntime")):
            continue
        assert main(words) == (2 if words[0] == "sample" else 0)  # this run is not on a text
    assert len((used / "out.csv").read_text().splitlines()) == 41
    python = next(line for line in said if line.startswith("allgrad.load"))
    rows = [{"area": 3, "heating": "gas"}]
    assert eval(python, {"allgrad": allgrad, "RUN": "RUN", "rows": rows}).shape == (1,)
    assert main(["train", "table.yaml", *(line for line in said if line.startswith("model.from="))]) == 0
    if find_spec("sklearn"):
        exec(next(line for line in said if line.startswith("from allgrad.sklearn")), {})


def test_folds_are_swept_as_the_documentation_says(used, monkeypatch, capsys):
    monkeypatch.chdir(used)
    line = re.search(r"`allgrad (sweep table\.yaml data\.fold=[\d,]+)`", DATA.replace("\n", " ")).group(1)
    assert main([*line.split(), "data.folds=5", "train.steps=1"]) == 0
    assert capsys.readouterr().out.count("data.fold") >= 1
