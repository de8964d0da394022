"""Run one command and print what it took, as one JSON object.

Imports little on purpose: a child counts its parent's memory as its own until it becomes another
program, so this process' size is the least that can be measured.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time

LAST_BYTES = 4000


def measure(command: list[str], limit: float) -> dict[str, object]:
    """Start `command`, wait for its end, and say what it and its children took.

    CPU seconds are those of all its processes, peak memory that of the largest one. After `limit`
    seconds the whole process group is killed.
    """
    with open("/tmp/said", "w+b") as said:  # noqa: PTH123, S108
        began = time.monotonic()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        late = False
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            late = True
            os.killpg(child.pid, signal.SIGKILL)
            status = child.wait()
        seconds = time.monotonic() - began
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        said.seek(max(0, said.seek(0, os.SEEK_END) - LAST_BYTES))
        words = said.read().decode(errors="replace")
    return {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_rss": usage.ru_maxrss * 1024,
        "status": status,
        "late": late,
        "said": words,
    }


def main(arguments: list[str]) -> int:
    """`measure.py LIMIT COMMAND…`; the command's own status is only told."""
    limit, *command = arguments
    print(json.dumps(measure(command, float(limit))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
