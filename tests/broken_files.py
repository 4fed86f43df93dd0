"""Valid files broken: byte by byte, value by value, and in the headers of tensors."""

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 5000,
    "../../x",
    "\x00", "\x1b[2J", "\ud800", "=cmd()", "<script>", "NaN", [], {}, [[]], [None], {"": None}, [1] * 50,
)  # fmt: skip
BYTES = (
    b"\x00",
    b"\xff",
    b"{",
    b"}",
    b"[" * 3000,
    b'"',
    b"\\",
    b"&a",
    b"*a",
    b"- ",
    b": ",
    b"\n",
    b"\r",
    b"9" * 50,
)


def broken(content: bytes, chooser: random.Random) -> bytes:
    """Valid content with one to three things wrong."""
    for _ in range(chooser.randint(1, 3)):
        content = chooser.choice((_bytes, _bytes, _value, _header))(content, chooser)
    return content


def _bytes(content: bytes, chooser: random.Random) -> bytes:
    start = chooser.randrange(len(content) + 1)
    end = min(len(content), start + chooser.choice((0, 1, 2, 8, 100, 10_000)))
    put = chooser.choice((b"", *BYTES, content[start:end] * 2, chooser.randbytes(chooser.randint(1, 16))))
    return content[:start] + put + content[end:]


def _value(content: bytes, chooser: random.Random) -> bytes:
    """Another value in a JSON document, or in one of its lines."""
    lines = content.splitlines(keepends=True) or [b""]
    place = chooser.randrange(len(lines))
    try:
        return json.dumps(_changed(json.loads(content), chooser)).encode()
    except (ValueError, RecursionError):
        try:
            lines[place] = json.dumps(_changed(json.loads(lines[place]), chooser)).encode() + b"\n"
        except (ValueError, RecursionError):
            word = chooser.choice(STRANGE)
            lines[place] = (
                lines[place].rstrip().rpartition(b" ")[0]
                + b" "
                + repr(word).encode("ascii", "replace")
                + b"\n"
            )
        return b"".join(lines)


def _changed(data: Any, chooser: random.Random) -> Any:
    if not isinstance(data, dict | list) or not data or chooser.random() < 0.15:
        return chooser.choice(STRANGE)
    if isinstance(data, dict):
        key = chooser.choice(list(data))
        match chooser.randrange(4):
            case 0:
                return {name: value for name, value in data.items() if name != key}
            case 1:
                return data | {
                    str(chooser.choice(STRANGE))[:50].encode("utf-8", "replace").decode(): data[key]
                }
            case _:
                return data | {key: _changed(data[key], chooser)}
    place = chooser.randrange(len(data))
    return [*data[:place], _changed(data[place], chooser), *data[place + chooser.randrange(2) :]]


def _header(content: bytes, chooser: random.Random) -> bytes:
    """Another value in the header of a safetensors file, whose length is told again, or told wrong."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.dumps(_changed(json.loads(content[8 : 8 + length]), chooser)).encode()
    except (ValueError, RecursionError):
        return _bytes(content, chooser)
    told = len(header) if chooser.random() < 0.9 else chooser.choice((0, 2**63, 10**13, len(header) - 1))
    return struct.pack("<Q", told) + header + content[8 + length :]


def places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def put(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = data.copy()
    copy[place[0]] = put(data[place[0]], place[1:], value)
    return copy
