"""Threads of products and of attention change no bit, in the parent and in forked processes."""

import hashlib
import os
import threading
import time

import numpy as np
import pytest

pytest.importorskip("numba", reason="only the compiled products have threads of their own")

from allgrad.kernels import helpers, threads
from allgrad.kernels.numba_kernels import kernels as numba_kernels


@pytest.fixture(autouse=True)
def one_thread_afterwards():
    yield
    threads.use(1)


def digest():
    """A digest of products that are cut by rows, by columns, and not at all, and of attention forward and backward."""
    rng, found = np.random.default_rng(0), hashlib.sha256()
    for rows, inner, columns in [(700, 130, 210), (33, 400, 1030), (5, 6, 7)]:
        a, b = rng.standard_normal((rows, inner), np.float32), rng.standard_normal((columns, inner), np.float32).T
        found.update(numba_kernels.matmul(a, b).tobytes())
        bias = rng.standard_normal(columns, np.float32)
        found.update(numba_kernels.matmul(a, b, bias=bias, out=np.empty((rows, columns), np.float32)).tobytes())
    packed, g = rng.standard_normal((5, 100, 12, 16), np.float32), rng.standard_normal((5, 100, 8, 16), np.float32)
    options = {"causal": True, "padding_mask": None, "scale": 0.25}
    for keep in (True, False):
        y, kept = numba_kernels.attention_forward(packed, 8, keep=keep, **options)
        found.update(y.tobytes())
        found.update(numba_kernels.attention_backward(g, packed, kept, 8, **options).tobytes())
    return found.hexdigest()


def test_one_to_five_threads_give_one_hash():
    found = set()
    for count in (1, 2, 3, 5):
        threads.use(count)
        threads.start()
        found.add(digest())
    assert len(found) == 1


def product_of(rows, inner, columns, seed=0):
    """Arguments of a product, and the result of one thread."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((rows, inner), np.float32), rng.standard_normal((inner, columns), np.float32)
    threads.use(1)
    return a, b, numba_kernels.matmul(a, b)


def multiply_until_a_helper_has_taken_a_part(a, b, expected):
    helpers._words[helpers.ENDED // 8] = 0
    end = time.monotonic() + 120
    while helpers._words[helpers.ENDED // 8] == 0:
        assert time.monotonic() < end
        np.testing.assert_array_equal(numba_kernels.matmul(a, b), expected)


@pytest.mark.parametrize(("rows", "columns"), [(700, 210), (33, 1030)], ids=["rows", "columns"])
def test_a_helper_takes_part_in_a_product(rows, columns):
    given = product_of(rows, 400, columns)
    threads.use(2)
    multiply_until_a_helper_has_taken_a_part(*given)


def test_products_of_two_threads_at_once():
    """One of them is shared with the helper, and the other one is not, at any time."""
    first, second = product_of(700, 130, 210), product_of(33, 400, 1030, seed=1)
    threads.use(2)
    threads.start()
    begin, right = threading.Barrier(2), []

    def work(a, b, expected):
        begin.wait(120)
        right.append(all(np.array_equal(numba_kernels.matmul(a, b), expected) for _ in range(200)))

    callers = [threading.Thread(target=work, args=given) for given in (first, second)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert right == [True, True]


def test_a_product_does_not_wait_for_another_one():
    a, b, expected = product_of(700, 130, 210)
    threads.use(2)
    threads.start()
    helpers._words[helpers.BUSY // 8] = 1
    try:
        np.testing.assert_array_equal(numba_kernels.matmul(a, b), expected)
    finally:
        helpers._words[helpers.BUSY // 8] = 0


def test_more_threads_than_a_job_has_parts(monkeypatch):
    a, b, expected = product_of(2000, 300, 300)
    monkeypatch.setattr(threads, "start", lambda: helpers.begin(1))  # nobody comes: the caller takes all parts
    threads.use(1000)
    try:
        np.testing.assert_array_equal(numba_kernels.matmul(a, b), expected)
    finally:
        helpers.begin(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_threads_of_its_own():
    """Also if the parent forks while another of its threads shares a product with its helper."""
    given = product_of(700, 130, 210)
    threads.use(2)
    expected = digest()
    helpers._words[helpers.BUSY // 8] = 1
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            multiply_until_a_helper_has_taken_a_part(*given)
            os.write(writer, digest().encode())
        finally:
            os._exit(0)
    helpers._words[helpers.BUSY // 8] = 0
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read().decode() == expected
    assert os.waitpid(child, 0)[1] == 0


def test_pieces_cover_the_axis():
    threads.use(3)
    for length, step in [(1, 1), (7, 3), (100, 6), (64, 16)]:
        parts = threads.pieces(length, 10**9, step)
        assert [i for part in parts for i in range(length)[part]] == list(range(length))
        assert all(part.start % step == 0 for part in parts)
    assert threads.pieces(10, threads.LEAST) == [slice(0, 10)]


def test_an_error_in_a_thread_is_raised_after_all_have_ended():
    threads.use(3)
    ended = []

    def work(part):
        if part.start == 0:
            raise RuntimeError("first")
        ended.append(part.start)
        return 0

    with pytest.raises(RuntimeError, match="first"):
        threads.each(work, [slice(0, 1), slice(1, 2), slice(2, 3)])
    assert sorted(ended) == [1, 2]


def test_a_call_does_not_wait_for_a_busy_thread():
    threads.use(2)
    everyone, go_on, names = threading.Barrier(3), threading.Event(), []

    def hold(part):
        everyone.wait(60)
        return 0 if go_on.wait(60) else 1

    def work(part):
        names.append(threading.current_thread().name)
        return part.start

    parts = [slice(0, 1), slice(1, 2)]
    other = threading.Thread(target=threads.each, args=[hold, parts])
    other.start()
    everyone.wait(60)  # the only helper and the other thread are both in `hold`
    assert threads.each(work, parts) == 1
    assert names == [threading.current_thread().name] * 2
    go_on.set()
    other.join()


def test_a_product_whose_result_overlaps_an_argument_is_not_cut():
    threads.use(2)
    rng = np.random.default_rng(1)
    a = rng.integers(-3, 4, (400, 400)).astype(np.float32)
    expected = a @ a
    np.testing.assert_array_equal(numba_kernels.matmul(a, a, out=a), expected)
