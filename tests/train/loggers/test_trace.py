"""The trace of a run: the trace-event format, slices that nest, windows, and how a trace is asked for."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from runs import train
from small_run import write_config

from allgrad import kernels
from allgrad.train.callbacks import Callback
from allgrad.train.loggers.trace import ask_for_trace, lanes, take_request

if TYPE_CHECKING:
    from pathlib import Path

# The part of the trace-event format that is used here ("Trace Event Format", Google, 2016).


class Event(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    pid: int
    tid: int
    args: dict[str, str | int | float]


class Complete(Event):
    ph: Literal["X"]
    cat: str
    ts: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    dur: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Counter(Event):
    ph: Literal["C"]
    ts: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Metadata(Event):
    ph: Literal["M"]
    name: Literal["process_name", "process_sort_index", "thread_name"]


class Trace(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    traceEvents: list[Annotated[Complete | Counter | Metadata, Field(discriminator="ph")]]  # noqa: N815
    displayTimeUnit: Literal["ms", "ns"]  # noqa: N815


def read(run: Path) -> list[dict]:
    content = (run / "trace.json").read_text()
    TypeAdapter(Trace).validate_json(content)
    return json.loads(content)["traceEvents"]


def steps_of(events: list[dict]) -> list[int]:
    return [event["args"]["step"] for event in events if event.get("cat") == "step"]


def slices_nest(events: list[dict]) -> None:
    """In each lane, two slices either do not overlap or one holds the other: anything else is drawn wrongly."""
    by_lane: dict[tuple[int, int], list[dict]] = {}
    for event in events:
        if event["ph"] == "X":
            by_lane.setdefault((event["pid"], event["tid"]), []).append(event)
    for inside in by_lane.values():
        open_until = [float("inf")]
        for event in sorted(inside, key=lambda e: (e["ts"], -e["dur"])):
            end = event["ts"] + event["dur"]
            while event["ts"] >= open_until[-1] - 0.002:
                open_until.pop()
            assert end <= open_until[-1] + 0.002, event  # times are rounded to nanoseconds
            open_until.append(end)


def test_the_first_steps(tmp_path) -> None:
    config = write_config(tmp_path, train={"steps": 12, "eval_every": 2, "early_stopping": None})
    train(config, tmp_path / "run", "logging.trace=5", "checkpoint.every=3")
    events = read(tmp_path / "run")
    slices_nest(events)
    assert steps_of(events) == [0, 1, 2, 3, 4]
    kinds = [event["cat"] for event in events if event["ph"] == "X"]
    batches = 1 if kernels.portable()[0] else 4  # the workers run as one batch, or one by one
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    assert counts.pop("checkpoint") >= 1
    assert counts == {
        "step": 5, "agree": 5, "load": 5, "update": 5, "wait": 5,
        "forward": 5 * batches, "backward": 5 * batches, "evaluation": 2,
    }  # fmt: skip
    whole = {event["args"]["step"]: event for event in events if event.get("cat") == "step"}
    for event in events:
        if event.get("cat") in ("agree", "load", "forward", "backward", "wait", "update"):
            step = whole[event["args"]["step"]]
            assert step["ts"] <= event["ts"]
            assert event["ts"] + event["dur"] <= step["ts"] + step["dur"] + 0.002
    assert [event["args"]["MB"] > 1 for event in events if event["ph"] == "C"] == [True] * 5


def test_no_trace_unless_somebody_asks(tmp_path) -> None:
    train(write_config(tmp_path, train={"steps": 3, "eval_every": None, "early_stopping": None}), tmp_path / "run")
    assert not (tmp_path / "run" / "trace.json").exists()


class Ask(Callback):
    """Asks for traces at certain steps, in one way or the other."""

    def __init__(self, *requests: tuple[int, int]) -> None:
        self.requests = dict(requests)

    def on_step(self, run, result) -> None:
        steps = self.requests.get(run.progress.step)
        if steps == 0:
            os.kill(os.getpid(), signal.SIGUSR2)
        elif steps:
            run.boundary.looked_at = 0.0  # the directory is looked into once a second
            ask_for_trace(run.directory, steps)


def test_windows_on_demand_and_by_signal(tmp_path) -> None:
    config = write_config(tmp_path, train={"steps": 20, "eval_every": None, "early_stopping": None})
    train(config, tmp_path / "run", callbacks=[Ask((4, 2), (10, 0), (18, 5))])
    events = read(tmp_path / "run")
    slices_nest(events)
    assert steps_of(events) == [4, 5, 10, 11, 12, 18, 19]  # the last window is cut by the end of the run
    times = [event["ts"] for event in events if event.get("cat") == "step"]
    assert times == sorted(times)


def test_a_request_is_taken_once_and_a_strange_one_is_none(tmp_path) -> None:
    assert take_request(tmp_path) == 0
    ask_for_trace(tmp_path, 7)
    assert (take_request(tmp_path), take_request(tmp_path)) == (7, 0)
    ask_for_trace(tmp_path, 10**9)
    assert take_request(tmp_path) == 1000
    for text in ("x", "-3", ""):
        (tmp_path / ".trace-request").write_text(text)
        assert take_request(tmp_path) == 0
    (tmp_path / "elsewhere").write_text("5")
    (tmp_path / ".trace-request").symlink_to(tmp_path / "elsewhere")
    assert take_request(tmp_path) == 0


def test_lanes_do_not_overlap() -> None:
    intervals = [(5.0, 9.0), (0.0, 4.0), (1.0, 6.0), (2.0, 3.0), (4.0, 5.0)]
    found = lanes(intervals)
    assert found == [0, 0, 1, 2, 0]


def test_workers_that_run_as_threads_get_lanes(tmp_path) -> None:
    """With synchronised batch norm, one worker's forward is inside the time of another's."""
    config = write_config(
        tmp_path,
        model={"name": "resnet18", "widths": [4, 4, 4, 4], "sync_batch_norm": True},
        data={"task": "classes"},
        loss={"name": "cross_entropy"},
        train={"steps": 2, "eval_every": None, "early_stopping": None},
        batch={"size": 8, "virtual_workers": 2},
    )
    text = yaml.safe_load(config.read_text())
    text["model"] = {
        key: value for key, value in text["model"].items() if key not in ("hidden", "activation", "dropout")
    }
    config.write_text(yaml.safe_dump(text))
    rng = np.random.default_rng(0)
    images = rng.random((20, 8, 8, 1), dtype=np.float32)
    np.savez(tmp_path / "data.npz", inputs=images, targets=rng.integers(0, 3, 20))
    train(config, tmp_path / "run", "logging.trace=2")
    events = read(tmp_path / "run")
    slices_nest(events)
    assert {event["tid"] for event in events if event.get("cat") == "forward"} == {0, 1}
