"""Hostile data files were tracebacks, filled the memory, or took minutes: each is one clear error, at once."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.data import DataError, sources
from allgrad.data.arrays import arrays_source
from allgrad.data.csv_files import parse_csv
from allgrad.data.idx import read_idx
from allgrad.data.images import Augmentation, image_source
from allgrad.data.labels import class_count
from allgrad.data.npy import open_array, open_arrays
from allgrad.data.points import heat_equation_source
from allgrad.data.sources import read_bytes
from allgrad.data.table_files import read_table
from allgrad.data.tables import Columns, table_source
from allgrad.data.text import text_source, tokens_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def zeros_gzip(size: int) -> bytes:
    """A gzip file of `size` zero bytes, as members of 16 MiB."""
    return gzip.compress(bytes(1 << 24)) * (size >> 24)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bomb") / "bomb.gz"
    path.write_bytes(zeros_gzip(5 << 30))
    return path


READERS: list[Callable[[str], Any]] = [
    lambda path: read_table(path),
    lambda path: text_source(path, unit="characters", context=8, valid=10, seed=0),
    lambda path: text_source(path, unit="bytes", context=8, valid=10, seed=0),
    lambda path: read_idx(path),
]


@pytest.mark.parametrize("read", READERS)
def test_a_gzip_bomb_is_refused(bomb: Path, read: Callable[[str], Any]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"bomb\.gz: .* more than 200 times as many. .* made to exhaust memory"):
        read(str(bomb))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("packed", [False, True])
def test_size_is_limited_whatever_the_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 10_000)
    content = np.random.default_rng(0).bytes(20_000).hex().encode() if packed else bytes(20_000)
    (tmp_path / "a").write_bytes(gzip.compress(content[:15_000]) if packed else content)
    assert (tmp_path / "a").stat().st_size < 10_000 or not packed
    with pytest.raises(DataError, match="At most 10,000 are read into memory"):
        read_bytes(tmp_path / "a")


def test_a_small_file_may_compress_well(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(zeros_gzip(32 << 20))
    assert len(read_bytes(tmp_path / "a")) == 32 << 20


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert read_bytes(tmp_path / "a") == b"one two"


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero"])
def test_devices_and_pipes_are_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npz"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(kind)
    for read in (*READERS, lambda path: open_arrays(tmp_path / "x.npz"), lambda path: open_array(tmp_path / "x.npz")):
        with pytest.raises(DataError, match="expected a regular file"):
            read(str(path))


def test_a_member_that_would_end_behind_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", inputs=np.zeros(100))
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    raw[28:30] = b"\xff\xff"  # the length of the local header's extra field
    (tmp_path / "x.npz").write_bytes(raw)
    with pytest.raises(DataError, match=r"x\.npz"):
        open_arrays(tmp_path / "x.npz")


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def described(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


HOSTILE_NPY = [
    (npy(described("(-3, 2)"), bytes(24)), "not possible"),
    (npy(described("(4294967296, 4294967296, 4294967296)")), "which takes .* bytes"),
    (npy(described(f"({2**70},)")), "which takes .* bytes"),
    (npy(described("(1500000000,)"), bytes(24)), r"takes 6,000,000,000 bytes. Got 24 bytes"),
    (npy(described("(6,)"), bytes(23)), "Got 23 bytes"),
    (npy(described("(6,)"), bytes(25)), "Got 25 bytes"),
    (npy(described("(" + "1," * 200 + ")"), bytes(4)), "not possible"),
    (npy(described("(True,)"), bytes(4)), "not possible|header is damaged"),
    (npy(described("3.5"), bytes(4)), "header is damaged"),
    (npy(described("'abc'"), bytes(4)), "header is damaged"),
    (npy("(" * 5000), "header is damaged"),
    (npy("{" * 300 + "}" * 300), "header is damaged"),
    (npy("not python"), "header is damaged"),
    (npy("{[]: 1}"), "header is damaged"),
    (npy("x" * 60_000), "header is damaged"),
    (npy(described("(1,)", "'|O'"), b"cos\nsystem\n"), "expected an array of numbers. Got dtype object"),
    (npy(described("(1,)", "[('a', '<f4')]"), bytes(4)), "expected an array of numbers"),
    (npy(described("(1,)", "('<f4', (2,))"), bytes(8)), "header is damaged|array of numbers"),
    (npy(described("(1,)", "'<U1'"), bytes(4)), "expected an array of numbers"),
    (npy(described("(1,)", "'V4'"), bytes(4)), "expected an array of numbers"),
    (npy(described("(1,)", "'f99'"), bytes(4)), "header is damaged"),
    (npy(described("(1,)", "None"), bytes(8)), "header is damaged"),
    (npy(described("(1,)"), bytes(4), (9, 9)), "header is damaged"),
    (b"\x93NUMPY", "header is damaged"),
    (b"", "header is damaged"),
    (b"PK\x03\x04", "header is damaged"),
]


@pytest.mark.parametrize(("content", "match"), HOSTILE_NPY)
@pytest.mark.parametrize("kind", ["npy", "stored", "deflated"])
def test_broken_headers_and_impossible_shapes(tmp_path: Path, content: bytes, match: str, kind: str) -> None:
    if kind == "npy":
        (tmp_path / "x.npy").write_bytes(content)
        read = lambda: open_array(tmp_path / "x.npy")  # noqa: E731
    else:
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
            archive.writestr("x.npy", content)
        read = lambda: open_arrays(tmp_path / "x.npz")["x"]  # noqa: E731
    with pytest.raises(DataError, match=match) as caught:
        read()
    assert "x.np" in str(caught.value)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("claimed", [6_000_000_000, 3_000_000_000])
def test_a_member_that_claims_gigabytes(tmp_path: Path, claimed: int) -> None:
    content = npy(described(f"({claimed // 4},)"), bytes(1000))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", content)
    raw = (tmp_path / "x.npz").read_bytes()
    lie = claimed + len(content) - 1000
    if lie >= 1 << 32:
        with pytest.raises(DataError, match=r"takes 6,000,000,000 bytes. Got 1,000 bytes"):
            open_arrays(tmp_path / "x.npz")
        return
    size = struct.pack("<I", len(content))
    assert raw.count(size) == 2  # in the local header and in the directory
    (tmp_path / "x.npz").write_bytes(raw.replace(size, struct.pack("<I", lie)))
    with pytest.raises(DataError, match="made to exhaust memory"):
        open_arrays(tmp_path / "x.npz")


def test_a_member_of_zeros_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SMALL", 1 << 16)
    np.savez_compressed(tmp_path / "x.npz", inputs=np.zeros(1 << 20), targets=np.zeros(3))
    with pytest.raises(DataError, match=r"'inputs': .* made to exhaust memory"):
        open_arrays(tmp_path / "x.npz")
    assert open_arrays(tmp_path / "x.npz", ["targets"])["targets"].tolist() == [0, 0, 0]  # only what is asked for


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
def test_damaged_deflate_data(tmp_path: Path, place: float) -> None:
    np.savez_compressed(tmp_path / "x.npz", inputs=np.random.default_rng(0).random(1000))
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    at = int(len(raw) * place)
    raw[at : at + 40] = b"\xff" * 40
    (tmp_path / "x.npz").write_bytes(raw)
    with pytest.raises(DataError, match=r"x\.npz"):
        open_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (bytes([0, 0, 8, 255]) + b"\0\0\0\1" * 255 + b"x", "claims 255 axes"),
        (bytes([0, 0, 8, 255]) + b"\0\0\0\2" * 255, "claims 255 axes"),
        (bytes([0, 0, 8, 200]), "cut short inside its header"),
        (bytes([0, 0, 14, 4]) + b"\xff" * 16, "which takes .* bytes"),
        (bytes([0, 0, 7, 1]) + b"\0\0\0\1x", "not an IDX file; its first bytes are 00 00 07 01"),
        (b"", "its first bytes are missing"),
    ],
)
def test_idx_headers(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_idx(str(tmp_path / "x"))


IMAGES = np.zeros((3, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "match"),
    [
        (IMAGES, np.zeros(3), "one integer label for each of 3 images. Got labels of dtype float64"),
        (IMAGES, np.zeros((3, 1), np.uint8), "one integer label"),
        (IMAGES, np.array(1), "one integer label"),
        (IMAGES.astype(float), np.arange(3), "expected images as uint8"),
        (np.array(1, np.uint8), np.arange(3), "expected images as uint8"),
        (IMAGES[:, :0], np.arange(3), "expected images as uint8"),
        (IMAGES, np.array([0, 1, 10**9]), r"sample 2: class label 1000000000 would mean 1,000,000,001 classes for"),
    ],
)
def test_wrong_images_and_labels(images: Any, labels: Any, match: str) -> None:
    for pairs in (((images, labels), (IMAGES, np.arange(3))), ((IMAGES, np.arange(3)), (images, labels))):
        with pytest.raises(DataError, match=match):
            image_source(*pairs, augmentation=Augmentation(), seed=0, what="images")


@pytest.mark.parametrize("label", [10**9, 2**62, 2**63, 2**64 - 1, 2000])
def test_a_class_far_above_the_number_of_samples(tmp_path: Path, label: int) -> None:
    labels = np.array([0, 1, label, 1] * 5, np.uint64)
    np.savez(tmp_path / "a.npz", inputs=np.zeros((20, 2)), targets=labels)
    options: dict[str, Any] = {"inputs": "inputs", "targets": "targets", "valid_fraction": 0.2, "split_seed": 0}
    with pytest.raises(DataError, match=f"'targets', sample 2: class label {label} would mean .* for 20 samples"):
        arrays_source(str(tmp_path / "a.npz"), None, task="classes", **options)


def test_many_classes_are_fine_where_there_are_many_samples() -> None:
    assert class_count(np.array([0, 999]), "x") == 1000
    assert class_count(np.arange(50_000), "x") == 50_000


def test_a_column_of_numbers_is_no_column_of_classes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(3000)))
    with pytest.raises(DataError, match="column 'b': 3,000 different values in 3,000 rows are too many for classes"):
        table_source(str(tmp_path / "t.csv"), Columns("b", "classes", ("a",)), valid_fraction=0.2, split_seed=0)


def test_a_categorical_column_that_numbers_the_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,b\n" + "".join(f"{i},{i / 7}\n" for i in range(40_000)))
    with pytest.raises(DataError, match="Column 'id' alone has 40,000 categories"):
        table_source(str(tmp_path / "t.csv"), Columns("b", categorical=("id",)), valid_fraction=0.2, split_seed=0)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"a,b\n1," + b"2" * 200_000, "line 2: not readable as CSV: field larger than field limit"),
        (b'a,b\n1,"2', "line 2: not readable as CSV"),
        (b"a,b\n\x81,2\n", "not text in UTF-8, UTF-16 or Windows-1252 .invalid byte at offset 4"),
        (b"a,b\n\xff\x00,2\n", "not text in UTF-8, UTF-16 or Windows-1252 .it has control characters"),
        (b"\xff\xfea", "not text in UTF-8, UTF-16"),
        (b"a,b\n1,2,3\n", "line 2: expected 2 fields, as in the header. Got 3"),
        (b"", "There is no line with values"),
        (b"\n\n\n", "There is no line with values"),
        (b"," * 100_000 + b"\n1\n", "There is only one line with values|more than once"),
    ],
)
def test_hostile_tables(content: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        parse_csv(content, "t.csv")
    assert len(str(caught.value)) < 3000


def test_numbers_too_large_for_a_mean(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1.7e308,1\n" * 30)
    with pytest.raises(DataError, match="column 'a': its values are too large"):
        table_source(str(tmp_path / "t.csv"), Columns("b", numeric=("a",)), valid_fraction=0.2, split_seed=0)


def test_points_that_do_not_fit_into_memory() -> None:
    with pytest.raises(DataError, match="1,000,000,000,512 points do not fit into memory"):
        heat_equation_source(alpha=0.1, interior=10**12, boundary=256, initial=256, grid=50, seed=0)
    with pytest.raises(DataError, match="points do not fit"):
        heat_equation_source(alpha=0.1, interior=1, boundary=1, initial=1, grid=10**6, seed=0)


@pytest.mark.parametrize("array", [np.zeros(3, "c8"), np.zeros(3, "U2"), np.zeros(3, [("a", "i4")]), np.zeros(3)])
def test_tokens_that_are_no_integers(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(DataError, match=r"t\.npy: expected"):
        tokens_source(str(tmp_path / "t.npy"), vocabulary_size=9, context=1, valid=1, seed=0)


def test_the_archive_of_another_program(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no array")
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"there is no array named 'inputs'. The arrays are: none"):
        open_arrays(tmp_path / "x.npz", ["inputs"])
