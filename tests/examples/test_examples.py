"""Every example runs, at a small size, as its docstring says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {
    "own_loop.py": ["30"],
    "heat_equation.py": ["--steps", "60", "--tolerance", "0.5"],
    "quadratic.py": [],
    "custom_operation.py": [],
    "custom_layer.py": [],
}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=EXAMPLES.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here():
    assert sorted(SMALL) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name):
    assert run(sys.executable, str(EXAMPLES / name), *SMALL[name]).strip()


def test_a_loop_of_ones_own_takes_40_lines_and_ends_in_one_hash(mpirun):
    assert len((EXAMPLES / "own_loop.py").read_text().splitlines()) <= 40
    single = run(sys.executable, str(EXAMPLES / "own_loop.py"), "12").splitlines()[-1]
    assert single.startswith("weights sha256 ")
    for ranks in (2, 3):
        lines = mpirun(EXAMPLES / "own_loop.py", ranks, 12).stdout.splitlines()
        assert lines[-2].endswith(f"on {ranks} rank(s)")
        assert lines[-1] == single


def test_the_quadratic_prints_the_same_derivative_four_ways():
    output = run(sys.executable, str(EXAMPLES / "quadratic.py"))
    assert "dy/dx =   5.00" in output
    assert "= 5.00" in output
    assert "x.grad = 5.0" in output
    assert re.search(r"n inputs, one output +5[01] forward +1 forward \+ +1 backward", output)
    assert re.search(r"one input, n outputs +[12] forward +1 forward \+ +50 backward", output)


def test_the_custom_layer_is_a_plugin():
    command = [
        sys.executable,
        "-m",
        "allgrad",
        "config",
        "configs/diamonds.yaml",
        "--plugin",
        "examples/custom_layer.py",
    ]
    assert "features: 16" in run(*command, "model.name=periodic", "model.features=16")
