"""How far a run or a verification is, for a person who waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

# Seconds between two lines where nothing moves: in a log, say.
SELDOM = 30.0

_CELLS = 24


class Progress:
    """Tables that are done and rows that are read; told by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: dict[str, int] = {}
        self._reading: dict[str, int] = {}
        self._done: set[str] = set()

    def expect(self, rows: Mapping[str, int]) -> None:
        """The tables that there are to do, and about how many rows each has."""
        with self._lock:
            self._expected = dict(rows)

    def begin(self, table: str) -> None:
        """Somebody is at work on `table`."""
        with self._lock:
            self._reading[table] = 0

    def read(self, table: str, rows: int) -> None:
        """So many more rows of it have come."""
        with self._lock:
            if table in self._reading:
                self._reading[table] += rows

    def done(self, table: str) -> None:
        """Nobody is at work on it any more, whatever came of it."""
        with self._lock:
            self._reading.pop(table, None)
            self._done.add(table)

    @property
    def share(self) -> float:
        """What part is done, 0 to 1: by rows that the tables have, not by those that travel."""
        with self._lock:
            # An empty table is something to do as well.
            weights = {table: rows + 1 for table, rows in self._expected.items()}
            done = sum(weights[t] for t in self._done if t in weights)
            done += sum(min(r, weights[t]) for t, r in self._reading.items() if t in weights)
            return done / sum(weights.values()) if weights else 0.0

    @property
    def text(self) -> str:
        """Tables that are done, and those in hand; empty before there is anything to tell."""
        with self._lock:
            if not self._expected:
                return ""
            parts = [f"{len(self._done)} of {len(self._expected)} tables"]
            for table, rows in self._reading.items():
                about = self._expected.get(table, 0)
                parts.append(f"{table} {rows:,} of about {about:,} rows" if rows else table)
        return "; ".join(parts)

    def line(self, columns: int) -> str:
        """The same behind a bar, for a terminal of that width."""
        if not self.text:
            return ""
        share = min(self.share, 1.0)
        full = round(share * _CELLS)
        bar = "━" * full + "─" * (_CELLS - full)
        line = f"{bar} {share:4.0%}  {self.text}"
        return line if len(line) <= columns else f"{line[: columns - 1]}…"


@contextlib.contextmanager
def telling(tell: Callable[[], None], every: float = SELDOM) -> Iterator[None]:
    """Call `tell` every so many seconds until the work in the block has ended."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(every):
            tell()

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def logged(log: Callable[[str], None]) -> Iterator[Progress]:
    """A progress that is told to `log` every `SELDOM` seconds."""
    progress = Progress()

    def tell() -> None:
        if progress.text:
            log(progress.text)

    with telling(tell):
        yield progress
