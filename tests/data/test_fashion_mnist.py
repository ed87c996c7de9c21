"""Fashion-MNIST: found or fetched, and always verified."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allgrad.data import DataError, fashion_mnist
from allgrad.data.fashion_mnist import download_fashion_mnist, fashion_mnist_source, find_fashion_mnist
from allgrad.data.images import Augmentation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with four small files instead of the real ones, and their digests instead of the published ones."""
    directory = tmp_path / "published"
    directory.mkdir()
    digests = {}
    for name in fashion_mnist.FILES:
        count = 6 if name.startswith("train") else 3
        array = np.arange(count * 16).reshape(count, 4, 4) if "images" in name else np.arange(count) % 10
        (directory / name).write_bytes(gzip.compress(idx(array)))
        digests[name] = hashlib.sha256(idx(array)).hexdigest()
    monkeypatch.setattr(fashion_mnist, "FILES", digests)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("ALLGRAD_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")  # the test server is this machine
    return directory


@pytest.fixture
def url(published: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(published))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_it_is_found_in_a_directory_the_cache_or_debians_place(published: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not found in .*cache.*debian.*allgrad data fashion-mnist.*Without a network"):
        find_fashion_mnist()
    published.rename(tmp_path / "debian")
    assert find_fashion_mnist() == tmp_path / "debian"
    (tmp_path / "cache").mkdir()
    (tmp_path / "debian").rename(tmp_path / "cache" / "fashion-mnist")
    assert find_fashion_mnist() == tmp_path / "cache" / "fashion-mnist"
    with pytest.raises(DataError, match="elsewhere"):
        find_fashion_mnist(str(tmp_path / "elsewhere"))


def test_it_is_read(published: Path) -> None:
    data = fashion_mnist_source(str(published), augmentation=Augmentation(), seed=0)
    assert (len(data.train), len(data.valid), data.info.input_shape) == (6, 3, (4, 4, 1))
    assert data.info.extra["classes"][9] == "ankle boot"


def test_other_content_is_refused(published: Path) -> None:
    name = "t10k-labels-idx1-ubyte.gz"
    (published / name).write_bytes(gzip.compress(idx(np.array([1, 2, 2]))))
    with pytest.raises(DataError, match=f"{name}: not the published content"):
        fashion_mnist_source(str(published), augmentation=Augmentation(), seed=0)


def test_download(url: str, tmp_path: Path) -> None:
    directory = download_fashion_mnist(url=url)
    assert directory == tmp_path / "cache" / "fashion-mnist"
    assert sorted(path.name for path in directory.iterdir()) == sorted(fashion_mnist.FILES)
    assert find_fashion_mnist() == directory
    assert download_fashion_mnist(url="http://127.0.0.1:1") == directory  # nothing is downloaded again


def test_a_download_with_other_content_leaves_nothing(url: str, published: Path, tmp_path: Path) -> None:
    (published / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match=r"train-images.*not the published content"):
        download_fashion_mnist(url=url)
    assert list((tmp_path / "cache" / "fashion-mnist").iterdir()) == []


def test_offline_says_what_to_do(published: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be reached .*Without a network, copy the files"):
        download_fashion_mnist(url="http://127.0.0.1:1", timeout=300)


def test_a_directory_that_cannot_be_made(published: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        download_fashion_mnist(url="http://127.0.0.1:1")


def test_the_real_files() -> None:
    try:
        find_fashion_mnist()
    except DataError:
        pytest.skip("Fashion-MNIST is not on this machine: run `allgrad data fashion-mnist`")
    data = fashion_mnist_source(None, augmentation=Augmentation(), seed=0)
    assert (len(data.train), len(data.valid), data.info.input_shape) == (60_000, 10_000, (28, 28, 1))
    assert np.bincount(data.valid.batch(np.arange(10_000))["targets"]).tolist() == [1000] * 10
