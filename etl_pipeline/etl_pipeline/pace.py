"""Bytes per second that a run takes from the source, over all of its connections together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Holds readers back, so that together they take no more than `rate` bytes a second.

    A reader that waits does not take from its socket, and so the server does not send: TCP does
    the rest. What a pause leaves unused is not made up for.

    Args:
        rate: bytes per second; None = as fast as it goes.
        clock, sleep: seconds, for tests.
    """

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._due = 0.0

    def spend(self, size: int) -> None:
        """Return when `size` bytes that were just read have had their time."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            self._due = max(self._due, now) + size / self._rate
            wait = self._due - now
        self._sleep(wait)
