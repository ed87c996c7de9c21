"""One process compiles and the others wait; nobody waits for ever; the program is told once."""

import threading

import pytest

from allgrad.kernels import compile_cache
from allgrad.kernels.compile_cache import announce, compiling


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(compile_cache, "_spent", 0.0)
    monkeypatch.setattr(compile_cache, "_announce", None)


def test_the_second_waits_for_the_first_and_finds_its_result(tmp_path):
    inside, may_end, events = threading.Event(), threading.Event(), []

    def first():
        with compiling(tmp_path, "f"):
            inside.set()
            assert may_end.wait(60)
            events.append("compiled")

    def second():
        with compiling(tmp_path, "f"):
            events.append("loaded")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    with compiling(tmp_path, "g"):  # another function has a lock of its own
        events.append("other")
    may_end.set()
    for thread in threads:
        thread.join(60)
    assert events == ["other", "compiled", "loaded"]
    assert (tmp_path / "f.done").exists()


def test_a_failure_gives_the_lock_back_and_leaves_no_mark(tmp_path):
    with pytest.raises(ZeroDivisionError), compiling(tmp_path, "f"):
        raise ZeroDivisionError
    assert not (tmp_path / "f.done").exists()
    with compiling(tmp_path, "f"):
        pass


def test_who_waited_long_enough_compiles_for_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(compile_cache, "PATIENCE", 0.1)
    with compiling(tmp_path, "f"), compiling(tmp_path, "f"):
        entered = True
    assert entered


def test_a_directory_that_cannot_be_written(tmp_path):
    with compiling(tmp_path / "missing", "f"):
        entered = True
    assert entered


def test_the_program_is_told_once_and_only_if_it_takes_time(tmp_path, monkeypatch):
    told = threading.Event()
    calls = []
    announce(lambda directory: (calls.append(directory), told.set()))
    with compiling(tmp_path, "quick"):
        pass
    assert calls == []
    monkeypatch.setattr(compile_cache, "SLOW", 0.0)
    with compiling(tmp_path, "slow"):
        assert told.wait(60)
    with compiling(tmp_path, "slow as well"):
        pass
    with compiling(tmp_path, "slow"):
        pass
    assert calls == [tmp_path]
