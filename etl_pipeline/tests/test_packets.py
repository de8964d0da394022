"""Rows are cut from the stream of packets exactly, wherever its blocks begin and end."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pymysql
import pytest

from etl_pipeline import packets
from etl_pipeline.errors import PipelineError

FULL = 0xFFFFFF
END = b"\xfe\x00\x00\x02\x00"


def string(value: bytes) -> bytes:
    """A value with its length before it."""
    size = len(value)
    if size < 251:
        return bytes([size]) + value
    for first, width in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if size < 1 << 8 * width:
            return bytes([first]) + size.to_bytes(width, "little") + value
    raise AssertionError


def packet(payload: bytes) -> bytes:
    """One payload as packets, split as the server splits it."""
    parts = [payload[at : at + FULL] for at in range(0, len(payload) + 1, FULL)]
    return b"".join(len(part).to_bytes(3, "little") + b"\x07" + part for part in parts)


class Wire:
    """A connection whose socket gives `stream` in blocks of at most `block` bytes."""

    def __init__(self, stream: bytes, block: int) -> None:
        self.stream, self.block, self.position, self.closed = stream, block, 0, False
        self._rfile = SimpleNamespace(read1=self.read1)
        self._result = SimpleNamespace(unbuffered_active=True, connection=self)

    def read1(self, most: int) -> bytes:
        part = self.stream[self.position : self.position + min(most, self.block)]
        self.position += len(part)
        return part

    def _force_close(self) -> None:
        self.closed = True


def read(wire: Wire) -> list[bytes]:
    return [row for rows in packets.rows(wire, "t") for row in rows]


@pytest.mark.parametrize("block", [1, 2, 3, 5, 7, 64, 1000, 1 << 18])
def test_rows_of_every_kind_of_length(block: int) -> None:
    sizes = [0, 1, 250, 251, 252, 1000, 0, 3]
    rows = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    wire = Wire(b"".join(packet(string(row)) for row in rows) + packet(END) + b"next", block)
    assert read(wire) == rows
    assert not wire.closed
    assert wire._result is None


def test_rows_above_sixteen_megabytes() -> None:
    # The payload is the row and up to nine bytes of its length: full packets on either side.
    sizes = [65_535, 65_536, FULL - 5, FULL - 4, FULL - 3, FULL, FULL + 1, 2 * FULL - 9, 2 * FULL]
    rows = [random.Random(size).randbytes(64) * (size // 64 + 1) for size in sizes]  # noqa: S311
    rows = [row[:size] for row, size in zip(rows, sizes, strict=True)]
    assert read(Wire(b"".join(packet(string(row)) for row in rows) + packet(END), 1 << 20)) == rows


def test_a_stream_that_ends_too_early_is_an_error() -> None:
    whole = packet(string(b"one")) + packet(string(b"two"))
    for stream in (whole, whole[:-1], whole + packet(END)[:-1], b""):
        wire = Wire(stream, 1000)
        with pytest.raises(pymysql.OperationalError) as caught:
            read(wire)
        assert caught.value.args[0] == 2013
        assert wire.closed


def test_an_error_in_the_middle_keeps_its_code_and_nothing_else() -> None:
    wire = Wire(packet(string(b"one")) + packet(b"\xff\x25\x05#70100canary"), 1000)
    with pytest.raises(pymysql.OperationalError) as caught:
        read(wire)
    assert caught.value.args[0] == 1317
    assert "canary" not in str(caught.value)
    assert wire.closed


def test_a_row_that_the_server_could_not_render_breaks_the_table() -> None:
    wire = Wire(packet(b"\xfb") + packet(END), 1000)
    with pytest.raises(PipelineError, match="max_allowed_packet"):
        read(wire)


def test_a_reader_that_leaves_closes_the_connection() -> None:
    wire = Wire(b"".join(packet(string(b"x")) for _ in range(9)) + packet(END), 8)
    rows = packets.rows(wire, "t")
    next(rows)
    rows.close()
    assert wire.closed
