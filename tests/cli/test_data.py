"""`allgrad data`, without a network: what is downloaded comes from a function in its place."""

from __future__ import annotations

import gzip
import hashlib
import io
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from allgrad.cli import data
from allgrad.cli.main import main
from allgrad.data import fashion_mnist
from allgrad.data.sources import data_path

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = {name: f"the content of {name}".encode() * 100 for name in fashion_mnist.FILES}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fashion-MNIST with four small files, and an empty machine."""
    monkeypatch.setenv("ALLGRAD_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    for name, content in CONTENT.items():
        monkeypatch.setitem(fashion_mnist.FILES, name, hashlib.sha256(content).hexdigest())


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serve CONTENT at the published address; returns the list of what was asked for."""
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(gzip.compress(CONTENT[url.rpartition("/")[2]]))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def put(folder: Path) -> Path:
    """The four files in a folder."""
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(gzip.compress(content))
    return folder


def unpacked(folder: Path) -> dict[str, bytes]:
    return {path.name: gzip.decompress(path.read_bytes()) for path in folder.iterdir()}


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("name", ["moby-dick", "diamonds"])
def test_what_comes_with_the_package_is_whole(name, tmp_path, capsys) -> None:
    (file,) = data.COLLECTIONS[name].files
    assert main(["data", name]) == 0
    assert last_line(capsys) == str(data_path(f"package:{file}").parent)
    assert main(["data", name, "--to", str(tmp_path / "deep" / "er")]) == 0
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == [file]


def test_found_where_debian_puts_it(tmp_path, capsys) -> None:
    folder = put(tmp_path / "debian")
    assert main(["data", "fashion-mnist"]) == 0
    assert last_line(capsys) == str(folder)
    assert not (tmp_path / "home").exists()


def test_downloaded_once_and_found_afterwards(served, tmp_path, capsys) -> None:
    for _ in range(2):
        assert main(["data", "fashion-mnist"]) == 0
        assert last_line(capsys) == str(tmp_path / "home" / "fashion-mnist")
    assert unpacked(tmp_path / "home" / "fashion-mnist") == CONTENT
    assert len(served) == 4


def test_downloaded_to_a_folder(served, tmp_path, capsys) -> None:
    assert main(["data", "fashion-mnist", "--to", str(tmp_path / "out")]) == 0
    assert last_line(capsys) == str(tmp_path / "out")
    assert unpacked(tmp_path / "out") == CONTENT


@pytest.mark.parametrize("to", [None, "out"])
def test_taken_from_a_folder(to, tmp_path, capsys) -> None:
    source = put(tmp_path / "stick")
    target = tmp_path / "out" if to else fashion_mnist.cache_directory()
    assert main(["data", "fashion-mnist", "--from", str(source), *(["--to", str(target)] if to else [])]) == 0
    assert last_line(capsys) == str(target)
    assert unpacked(target) == CONTENT


@pytest.mark.parametrize("damage", ["cut", "flip", "another", "gone"])
def test_a_bad_file_is_refused_by_name_and_nothing_is_copied(damage, tmp_path, capsys) -> None:
    file = put(tmp_path / "stick") / "train-labels-idx1-ubyte.gz"
    whole = file.read_bytes()
    middle = len(whole) // 2
    if damage == "gone":
        file.unlink()
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
        file.write_bytes({"cut": whole[:-10], "flip": flipped, "another": gzip.compress(b"another")}[damage])
    assert main(["data", "fashion-mnist", "--from", str(tmp_path / "stick"), "--to", str(tmp_path / "out")]) == 1
    assert str(file) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_offline_says_what_to_do(tmp_path, monkeypatch, capsys) -> None:
    def urlopen(url: str, timeout: float) -> io.BytesIO:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert main(["data", "fashion-mnist"]) == 1
    err = capsys.readouterr().err
    assert "Name or service not known" in err
    assert "dataset-fashion-mnist" in err
    assert "Traceback" not in err
