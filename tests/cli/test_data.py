"""`allgrad data`, without a network: downloads come from a function in the test's place."""

from __future__ import annotations

import gzip
import hashlib
import io
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from allgrad.cli.main import main
from allgrad.data import files

CONTENT = {"a": b"first" * 1000, "b": b"second" * 1000}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> files.Collection:
    """A data set of two files, `tiny`, published at a made-up address, with an empty place of its own."""
    monkeypatch.setenv("ALLGRAD_DATA", str(tmp_path / "home"))
    entry = files.Collection(
        title="for a test",
        files={name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()},
        folders=(tmp_path / "debian",),
        url="https://published.invalid/tiny",
        package="dataset-tiny",
    )
    monkeypatch.setitem(files.CATALOGUE, "tiny", entry)
    return entry


def put(folder: Path, *, packed: bool) -> Path:
    folder.mkdir()
    for name, content in CONTENT.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serve CONTENT at tiny's address; returns the list of what was asked for."""
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        assert timeout > 0
        asked.append(url)
        return io.BytesIO(
            gzip.compress(CONTENT[url.removeprefix("https://published.invalid/tiny/").removesuffix(".gz")])
        )

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


@pytest.mark.parametrize(("name", "file"), [("moby-dick", "moby_dick.txt"), ("diamonds", "diamonds.csv")])
def test_what_comes_with_the_package_is_whole(name, file, tmp_path, capsys) -> None:
    assert main(["data", name]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(files.find(name))
    assert main(["data", name, "--to", str(tmp_path)]) == 0
    assert hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() == files.CATALOGUE[name].files[file]


def test_found_where_debian_puts_it(tiny, tmp_path, capsys) -> None:
    folder = put(tmp_path / "debian", packed=True)
    assert main(["data", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("packed", [True, False])
def test_from_a_folder_to_a_folder_unpacked(tiny, tmp_path, packed) -> None:
    source = put(tmp_path / "stick", packed=packed)
    assert main(["data", "tiny", "--from", str(source), "--to", str(tmp_path / "out" / "deep")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "deep").iterdir()} == CONTENT


def test_downloaded_verified_and_found_afterwards(tiny, served, tmp_path, capsys) -> None:
    assert main(["data", "tiny"]) == 0
    assert files.find("tiny") == tmp_path / "home" / "tiny"
    assert {path.name: path.read_bytes() for path in files.find("tiny").iterdir()} == CONTENT
    assert len(served) == 2
    assert main(["data", "tiny"]) == 0
    assert len(served) == 2, "a second call must not download"


def test_only_what_is_missing_or_damaged_is_downloaded_again(tiny, served, tmp_path) -> None:
    folder = put(tmp_path / "out", packed=False)
    (folder / "b").write_bytes(b"damaged")
    assert main(["data", "tiny", "--to", str(folder)]) == 0
    assert served == ["https://published.invalid/tiny/b.gz"]
    assert (folder / "b").read_bytes() == CONTENT["b"]


def test_a_changed_file_is_refused_and_the_place_stays_clean(tiny, tmp_path, capsys) -> None:
    source = put(tmp_path / "stick", packed=False)
    (source / "a").write_bytes(b"changed")
    assert main(["data", "tiny", "--from", str(source), "--to", str(tmp_path / "out")]) == 1
    assert "is not the published file: its sha256 is" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "no gzip"])
def test_a_damaged_archive_is_refused_by_name(tiny, tmp_path, capsys, damage) -> None:
    source = put(tmp_path / "debian", packed=True)
    whole = (source / "a.gz").read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    (source / "a.gz").write_bytes({"cut": whole[:-10], "flip": flipped, "no gzip": b"hello" * 10}[damage])
    assert main(["data", "tiny"]) == 1
    assert f"{source / 'a.gz'} is damaged" in capsys.readouterr().err


def test_offline_says_what_to_do(tiny, tmp_path, monkeypatch, capsys) -> None:
    def urlopen(url: str, timeout: float) -> io.BytesIO:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert main(["data", "tiny"]) == 1
    err = capsys.readouterr().err
    assert "Name or service not known" in err
    assert "apt-get install dataset-tiny" in err
    assert "allgrad data tiny --from DIR" in err
    assert list((tmp_path / "home" / "tiny").iterdir()) == []


def test_a_source_that_lacks_a_file_is_a_usage_error(tiny, tmp_path, capsys) -> None:
    (put(tmp_path / "stick", packed=True) / "b.gz").unlink()
    assert main(["data", "tiny", "--from", str(tmp_path / "stick")]) == 2
    assert "lacks b" in capsys.readouterr().err


def test_find_says_which_command_brings_it(tiny) -> None:
    with pytest.raises(FileNotFoundError, match="allgrad data tiny"):
        files.find("tiny")
    with pytest.raises(ValueError, match="known are diamonds, fashion-mnist"):
        files.find("mnist")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ALLGRAD_DATA": "/shared", "XDG_CACHE_HOME": "/cache"}, "/shared/tiny"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/allgrad/tiny"),
        ({"HOME": "/home/someone"}, "/home/someone/.cache/allgrad/tiny"),
    ],
)
def test_home_follows_the_environment(variables, expected, monkeypatch) -> None:
    for name in ("ALLGRAD_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert files.home("tiny") == Path(expected)
