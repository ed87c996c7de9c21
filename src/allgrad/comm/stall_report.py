"""What a stall monitor writes: control messages of a fixed size, and the report of a stall in words."""

from __future__ import annotations

import json
from typing import Any

from .agreement import format_ranks

MESSAGE_BYTES = 4096
"""The size of a control message: JSON, padded with blanks."""


def encode(message: dict[str, Any]) -> bytes:
    """A control message as JSON of a fixed size: if it is too long, old stack lines are dropped and long texts shortened.

    >>> import json
    >>> text = encode({"line": "é" * 9000, "stack": ["outer", "inner" * 999]})
    >>> len(text), json.loads(text)["stack"][0][:10]
    (4096, 'innerinner')
    """
    message = dict(message)
    while len(text := json.dumps(message).encode()) > MESSAGE_BYTES:
        stack = message.get("stack", [])
        lengths = {key: len(json.dumps(value)) for key, value in message.items() if isinstance(value, (str, list))}
        key = max(lengths, key=lambda name: lengths[name])
        if key == "stack" and len(stack) > 1:
            message["stack"] = stack[1:]
        elif key == "stack":
            message["stack"] = [stack[0][: len(stack[0]) // 2]]
        else:
            message[key] = message[key][: len(message[key]) // 2]
    return text.ljust(MESSAGE_BYTES)


def describe(
    everyone: dict[int, dict[str, Any]],
    heard: dict[int, tuple[float, dict[str, Any]]],
    size: int,
    limit: float,
    now: float,
) -> str:
    """The report of a stall, from the ranks that answered (`everyone`) and the last message of those that did not."""
    oldest = min((s for s in everyone.values() if s["oldest"] >= 0), key=lambda s: int(s["oldest"]))
    lines = [f"Stall: nothing has moved for {limit:g} s in {oldest['what']}."]
    silent = [rank for rank in range(size) if rank not in everyone]
    missing = [rank for rank, status in everyone.items() if status["posted"] <= oldest["oldest"]]
    for rank in sorted(missing):
        status = everyone[rank]
        where = f"on {status['host']}, process {status['pid']}"
        lines.append(f"Missing: rank {rank} ({where}) has not posted it. Its main thread is at")
        lines += status["stack"]
    for rank in silent:
        lines.append(
            f"Missing: rank {rank} does not answer. It is stopped, cut off, or runs C code that holds the GIL."
        )
        then, status = heard.get(rank, (0.0, {}))
        if status:
            where = f"on {status['host']}, process {status['pid']}"
            lines.append(f"  Its last heartbeat ({where}) is {now - then:.0f} s old; its main thread was at")
            lines.append(f"  {status['line']}")
    present = sorted(set(everyone) - set(missing))
    if present:
        lines.append(f"Waiting in it: {format_ranks(present)}.")
    if not missing and not silent:
        lines.append("All ranks have posted it, but the network or the MPI library does not deliver.")
    if missing or silent:
        lines.append(
            "If a rank may take longer than this, raise stall_seconds (in a configuration: parallel.stall_seconds, and "
            "parallel.startup_seconds until the model is built)."
        )
    return "\n".join(lines)
