"""The rows of an unbuffered one-column result, straight from the connection's socket.

PyMySQL builds four objects for each row; a load reads millions and wants only their bytes. This
reads blocks and cuts them at the packets' headers: a quarter of the client's CPU seconds
(`cargo xtask bench etl` shows them).

A packet is a length of 3 bytes, a sequence number, the payload; a row's payload is one string with
its length before it (dev.mysql.com/doc/dev/mysql-server: "Protocol Basics", "ProtocolText::Row").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pymysql
from pymysql.constants import CR

from etl_pipeline.errors import PipelineError

_BLOCK = 1 << 18
_LARGEST = 0xFFFFFF
_NULL, _TWO, _THREE, _EIGHT, _ERROR = 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_HEADER = struct.Struct("<I").unpack_from
# An end-of-rows packet begins like a string of more than 16 MB, but is shorter than any.
_END_BELOW = 9


def rows(connection: Any, table: str) -> Iterator[list[bytes]]:  # noqa: ANN401 - PyMySQL's insides
    """The rows of the unbuffered result that was just asked for, in lists as they arrive.

    Args:
        connection: a PyMySQL connection whose SSCursor has executed a query of one column.
        table: named in errors.

    Raises:
        pymysql.MySQLError: the server broke off, or the connection did.
        PipelineError: a row is NULL, which is how the server says "above max_allowed_packet".

    A result that is left half-read closes the connection.
    """
    read = connection._rfile.read1
    # PyMySQL must neither drain the rest nor read between our blocks.
    result = connection._result
    result.unbuffered_active, result.connection, connection._result = False, None, None
    held, size, needed, ended = [b""], 0, 1, False
    try:
        while not ended:
            while size < needed:
                block = read(_BLOCK)
                if not block:
                    raise _lost("end of stream")
                held.append(block)
                size += len(block)
            whole = b"".join(held)
            found, used, needed, ended = _cut(whole, table)
            held, size = [whole[used:]], size - used
            if found:
                yield found
    except OSError as error:
        raise _lost(type(error).__name__) from None
    finally:
        if not ended:
            connection._force_close()


def _cut(block: bytes, table: str) -> tuple[list[bytes], int, int, bool]:
    """(whole rows, bytes used, bytes that the next packet needs, was it the end) of a block."""
    found: list[bytes] = []
    position, size, needed = 0, len(block), 0
    while True:
        start = position + 4
        if start > size:
            needed = 4
            break
        length = _HEADER(block, position)[0] & _LARGEST
        end = start + length
        if end > size:
            needed = 4 + length
            break
        if length == _LARGEST:
            row, end = _joined(block, position)
            if end > size:
                needed = end - position
                break
            found.append(row)
            position = end
            continue
        first = block[start]
        if first < _NULL:
            found.append(block[start + 1 : end])
        elif first == _TWO:
            found.append(block[start + 3 : end])
        elif first == _THREE:
            found.append(block[start + 4 : end])
        elif first == _EIGHT and length < _END_BELOW:
            return found, end, 0, True
        elif first == _NULL:
            raise PipelineError(
                f"reading table {table}: a row is longer than max_allowed_packet",
                "raise max_allowed_packet on the source server",
            )
        else:
            # What follows the code may quote a value.
            code = int.from_bytes(block[start + 1 : start + 3], "little")
            raise pymysql.OperationalError(code, "the server broke off")
        position = end
    return found, position, needed, False


def _joined(block: bytes, position: int) -> tuple[bytes, int]:
    """A row of 16 MB or more spans packets up to the first that is not full.

    Returns:
        The row and its end; an end beyond the block is how far to read before asking again.
    """
    parts = []
    while True:
        if position + 4 > len(block):
            return b"", position + 4
        length = _HEADER(block, position)[0] & _LARGEST
        end = position + 4 + length
        if end > len(block):
            return b"", end
        parts.append(block[position + 4 : end])
        position = end
        if length < _LARGEST:
            row = b"".join(parts)
            return row[1 + {_THREE: 3, _EIGHT: 8}[row[0]] :], position


def _lost(why: str) -> pymysql.OperationalError:
    return pymysql.OperationalError(CR.CR_SERVER_LOST, f"lost connection during query ({why})")
