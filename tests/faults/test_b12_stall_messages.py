"""A stall report could die of its own message: a long one was cut in the middle of its JSON, and the receiver failed on it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.comm.stall_report import MESSAGE_BYTES, encode

texts = st.text(max_size=20).map(lambda text: text * 300)


@given(line=texts, what=texts, host=st.text(max_size=9), stack=st.lists(texts, max_size=8))
def test_every_message_fits_and_can_be_read(line, what, host, stack) -> None:
    message = {
        "kind": "here",
        "rank": 3,
        "posted": 7,
        "oldest": -1,
        "host": host,
        "line": line,
        "what": what,
        "stack": stack,
    }
    text = encode(message)
    assert len(text) == MESSAGE_BYTES
    got = json.loads(text)
    assert {key: got[key] for key in ("kind", "rank", "posted", "oldest")} == {
        "kind": "here", "rank": 3, "posted": 7, "oldest": -1,
    }  # fmt: skip
    assert message["stack"] == stack  # the caller's own is left alone


@pytest.mark.parametrize("stack", [["short", "é" * 399], ["\U0001f40b" * 400] * 8])
def test_the_innermost_line_of_a_stack_stays(stack) -> None:
    assert json.loads(encode({"kind": "here", "line": "x", "stack": stack}))["stack"][-1][:9] == stack[-1][:9]


def test_a_short_message_is_sent_as_it_is() -> None:
    message = {"kind": "here", "stack": ["one", "two"], "line": "here"}
    assert json.loads(encode(message)) == message
