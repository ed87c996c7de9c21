"""Functions on several ranks: what is sent, what comes back, and how failures and interrupts end."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import allgrad as ag
from allgrad.errors import UsageError
from allgrad.launching import LaunchedError, launch, program_of

SCALE = {"by": np.arange(3.0), "name": "scale"}


def helper(x):
    return scaled(x) + 1


def scaled(x):
    return x * SCALE["by"]


class Counter:
    """A class of this module."""

    def __init__(self, start: int) -> None:
        self.start = start

    def next(self):
        return helper(self.start)


SCRIPT = """
    import numpy as np
    import allgrad
    from allgrad import comm, nn, optim, parallel

    WIDTH = 4
    TARGETS = np.arange(12.0, dtype=np.float32).reshape(12, 1)

    class Net(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(3, WIDTH, rng=0)
            self.outer = nn.Linear(WIDTH, 1, rng=1)

        def forward(self, x):
            return self.outer(np.tanh(self.inner(x)))

    def loss_of(model):
        return lambda part: np.mean((model(part[0]) - part[1]) ** 2)

    def train(steps, more):
        world = comm.init()
        model = Net()
        replica = parallel.DataParallel(model, world, virtual_workers=4)
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        inputs = np.sin(np.arange(36, dtype=np.float32)).reshape(12, 3) * more["scale"]
        for step in range(steps):
            result = replica.step(loss_of(model), replica.split((inputs, TARGETS)), step)
            optimizer.step()
        return world.size, result.loss, {name: value for name, value in model.state_dict().items()}

    here = train(5, {"scale": np.float32(2)})
    there = allgrad.launch(train, 5, {"scale": 2.0}, ranks=2)
    assert [size for size, _, _ in there] == [2, 2]
    for _, loss, weights in there:
        assert loss == here[1]
        assert all((weights[name] == here[2][name]).all() for name in here[2])
    print("the same bits")
"""


def test_a_script_gets_the_bits_of_its_own_process(mpi_flavour, tmp_path, clean_environment) -> None:
    """Classes, functions and values of the script go to the ranks by source and value, and nothing runs twice."""
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env=clean_environment({}), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the same bits\n"


@pytest.fixture
def cell(monkeypatch):
    """cell(source) -> the functions that it defines in `__main__`, as a notebook's cell does."""
    import linecache

    def run(source: str):
        name = f"<cell {id(source)}>"
        source = textwrap.dedent(source)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        space = {"__name__": "__main__"}
        exec(compile(source, name, "exec"), space)
        return space

    return run


def test_a_cell_is_sent_with_what_it_names(cell) -> None:
    space = cell(
        """
        import numpy as np
        from pathlib import Path
        rate, table = 0.5, {"a": [1, 2], "b": np.ones(2)}
        def inner(x):
            return Path(str(x)), rate
        def outer(x):
            return [inner(y) for y in (x, table["a"])]
        """
    )
    values: dict = {}
    text = program_of(space["outer"], values)
    assert set(values) == {"rate", "table"}
    made = dict(values)
    exec(text, made)
    assert made["outer"](3) == space["outer"](3)
    assert text.index("def inner") < text.index("def outer")


def test_a_function_of_a_module_is_imported() -> None:
    from small_run import write_config

    assert "from small_run import write_config as write_config" in program_of(write_config, {})


INSIDE = "def around():\n    x = 1\n    def g():\n        return x\n    return g\ng = around()"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "f = object()\ndef g():\n    return f",
            "the global 'f' is or holds an object of type object, which cannot be sent",
        ),
        (INSIDE, "uses local variables of the function around it: x"),
        ("g = lambda: 1", "must be defined by `def` or `class`"),
        ("g = print", "calls a Python function, but got <built-in function print>"),
    ],
)
def test_what_cannot_be_sent_is_named(cell, source, said) -> None:
    with pytest.raises(UsageError) as caught:
        program_of(cell(source)["g"], {})
    assert said in str(caught.value)


def test_arguments_that_cannot_be_sent_are_named() -> None:
    with pytest.raises(UsageError, match="an argument or a global is or holds an object of type object"):
        launch(helper, object(), ranks=1)


def failing(x):
    from allgrad import comm

    if comm.init().rank == 1:
        raise ValueError(f"cannot do {x}")
    comm.init().barrier()


def test_a_failure_says_what_the_rank_said(mpi_flavour, capfd) -> None:
    with pytest.raises(LaunchedError) as caught:
        launch(failing, "that", ranks=2)
    assert "The job of 2 ranks failed" in str(caught.value)
    assert "rank 1 of 2" in str(caught.value)
    assert "ValueError: cannot do that" in str(caught.value)


def waiting(place):
    import time
    from pathlib import Path

    Path(place).touch()
    time.sleep(1000)


def test_an_interrupt_ends_the_ranks(mpi_flavour, tmp_path) -> None:
    def press():
        while not (tmp_path / "up").exists():
            threading.Event().wait(0.02)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        launch(waiting, str(tmp_path / "up"), ranks=2)


def test_it_is_a_name_of_the_package(monkeypatch) -> None:
    assert ag.launch is launch
    monkeypatch.setenv("PMI_RANK", "0")
    with pytest.raises(UsageError, match="this process is a rank of one already"):
        launch(helper, 1)
