"""A TCP proxy between the package and a server that makes a fault happen at an exact byte.

Each connection has one thread, so an action that runs in it holds up both directions: while it
runs, the package and the server wait. Bytes are counted over all connections.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

UP = "up"  # package → server
DOWN = "down"  # server → package
_PIECE = 16 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER 0: close sends RST


class Gone(Exception):
    """The connection was ended by the fault."""


@dataclass
class Link:
    """One connection of the package and its other half to the server."""

    client: socket.socket
    server: socket.socket
    pace: tuple[int, float] | None = None  # bytes at a time, seconds between
    passed: dict[str, int] = field(default_factory=lambda: {UP: 0, DOWN: 0})

    @property
    def port(self) -> int:
        """The client's port as the server sees it."""
        return int(self.server.getsockname()[1])

    def cut(self) -> None:
        """RST to both sides."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise Gone

    def close(self) -> None:
        """FIN to both sides, which looks like a peer that has finished."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        raise Gone

    def lose_answer(self) -> None:
        """Let the server do what it was told last, and cut before its answer comes back."""
        self.server.settimeout(10)
        with contextlib.suppress(OSError):
            self.server.recv(_PIECE)
        self.cut()

    def trickle(self) -> None:
        """Pass all that follows in small pieces."""
        self.pace = (700, 0.0005)


Action = Callable[[Link], None]


@dataclass
class Fault:
    """What happens (once) and when: at a byte, or at the nth sight of a text, in one direction.

    Attributes:
        at_byte: bytes that have passed by then.
        of_one: count those of each connection by itself, so that a large table's is meant.
        at_text: letters of either case; the action runs when `into` of its bytes have passed.
    """

    direction: str
    action: Action
    at_byte: int | None = None
    of_one: bool = False
    at_text: bytes | None = None
    nth: int = 1
    into: int = 0
    fired: threading.Event = field(default_factory=threading.Event)
    _seen: int = 0

    def place(self, passed: int, chunk: bytes) -> int | None:
        """How much of `chunk` still passes before the action; None if it is not due in it."""
        if self.fired.is_set():
            return None
        if self.at_byte is not None:
            return self.at_byte - passed if passed <= self.at_byte < passed + len(chunk) else None
        for match in re.finditer(re.escape(self.at_text or b""), chunk, re.IGNORECASE):
            self._seen += 1
            if self._seen == self.nth:
                return min(match.start() + self.into, len(chunk))
        return None


class Proxy:
    """Listens on a port of this machine; `heal` forgets the fault and the counts."""

    def __init__(self, host: str, port: int, *, login: Action | None = None) -> None:
        self._address = (host, port)
        self._login = login
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._down = False
        self.passed = {UP: 0, DOWN: 0}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._down = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def arm(self, fault: Fault) -> Fault:
        """Count from zero and let `fault` happen."""
        with self._lock:
            self._fault = fault
            self.passed = {UP: 0, DOWN: 0}
        return fault

    def heal(self) -> None:
        """Pass everything, count from zero."""
        with self._lock:
            self._fault = None
            self._down = False
            self.passed = {UP: 0, DOWN: 0}

    def outage(self, link: Link) -> None:
        """An action: this connection is cut and no new one comes through until `heal`."""
        self._down = True
        link.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_INET)
        # Little is under way, so that a large table is still being read when the action runs.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        try:
            server.connect((socket.gethostbyname(self._address[0]), self._address[1]))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, server)
            if self._login is not None:
                self._login(link)
            self._pump(link)
        except (Gone, OSError):
            pass
        finally:
            client.close()
            server.close()

    def _pump(self, link: Link) -> None:
        ways = {link.client: (link.server, UP), link.server: (link.client, DOWN)}
        while True:
            ready, _, _ = select.select(list(ways), [], [])
            for end in ready:
                other, direction = ways[end]
                chunk = end.recv(_PIECE)
                if not chunk:
                    return
                self._pass(link, other, direction, chunk)

    def _pass(self, link: Link, other: socket.socket, direction: str, chunk: bytes) -> None:
        with self._lock:
            fault = self._fault
            place = None
            if fault is not None and fault.direction == direction:
                counted = link.passed if fault.of_one else self.passed
                place = fault.place(counted[direction], chunk)
                if place is not None:
                    fault.fired.set()
            self.passed[direction] += len(chunk)
            link.passed[direction] += len(chunk)
        if fault is None or place is None:
            self._send(link, other, chunk)
            return
        self._send(link, other, chunk[:place])
        fault.action(link)
        self._send(link, other, chunk[place:])

    @staticmethod
    def _send(link: Link, other: socket.socket, chunk: bytes) -> None:
        if link.pace is None:
            other.sendall(chunk)
            return
        size, pause = link.pace
        for start in range(0, len(chunk), size):
            other.sendall(chunk[start : start + size])
            time.sleep(pause)


def set_zone(zone: str) -> Action:
    """An action at the login: a MariaDB session that begins in `zone`, as if the server's were it.

    `SET GLOBAL time_zone` would reach every other client of the server.
    """

    def login(link: Link) -> None:
        link.client.sendall(_packet(link.server))
        link.server.sendall(_packet(link.client))
        while True:
            answer = _packet(link.server)
            if answer[4] == 0:  # OK: logged in
                break
            link.client.sendall(answer)
            if answer[4] == 0xFF:
                raise Gone
            link.server.sendall(_packet(link.client))
        query = b"\x03SET time_zone = '" + zone.encode() + b"'"
        link.server.sendall(len(query).to_bytes(3, "little") + b"\0" + query)
        if _packet(link.server)[4] != 0:
            raise Gone
        link.client.sendall(answer)

    return login


def _packet(end: socket.socket) -> bytes:
    head = _exactly(end, 4)
    return head + _exactly(end, int.from_bytes(head[:3], "little"))


def _exactly(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        if not more:
            raise Gone
        data += more
    return data
