"""Run dbt as a process of its own, and believe only what this very run wrote. Knows nothing of
Airflow.

dbt shares Airflow's interpreter but not its process: a build takes its memory, its threads and its
signal handlers with it when it ends. It gets a process group of its own, so that a time limit or a
stop reaches all of it, and the kernel is told to end it should this process die without a word.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etl_pipeline.dbt_output import FAILURES_SHOWN, Failure, Scrubber, cause, failure

GRACE_SECONDS = 20.0
_TOKEN_ENV = "DBT_ENV_CUSTOM_ENV_PIPELINE_TOKEN"  # noqa: S105 - the name of a variable; dbt copies it into its artefacts
_TOKEN_KEY = "PIPELINE_TOKEN"  # noqa: S105 - the same, as dbt writes it
_PR_SET_PDEATHSIG = 1

_PASSED = frozenset({"success", "pass"})
_FAILED = frozenset({"error", "fail", "runtime error"})


class DbtError(Exception):
    """dbt could not be started, or was stopped."""


@dataclass(frozen=True)
class DbtResult:
    """What one `dbt build` did; never a value of a row.

    Attributes:
        seconds: wall time.
        models, tests: nodes counted by dbt's own status.
        failed, warned: unique ids.
        select: what `dbt build --select` takes to build again what failed.
        error: what failed and why, a line for each node, then how dbt ended; None when ok.
    """

    ok: bool
    exit_code: int | None
    invocation_id: str | None
    seconds: float
    models: Mapping[str, int]
    tests: Mapping[str, int]
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    select: tuple[str, ...]
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        lists = {name: list(getattr(self, name)) for name in ("failed", "warned", "select")}
        return {**asdict(self), **lists}


def read_results(path: Path, *, token: str) -> dict[str, Any] | None:
    """The parsed `run_results.json` at `path` if the run marked by `token` wrote it; else
    `None`.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        written_by = document["metadata"]["env"][_TOKEN_KEY]
        return document if written_by == token else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def summarise(
    document: Mapping[str, Any] | None,
    *,
    exit_code: int | None,
    seconds: float,
    error: str | None,
    manifest: Mapping[str, Any] | None = None,
    reason: str = "",
) -> DbtResult:
    """Judge one invocation by its exit code *and* its results: both must be good, and something
    must have been built. `manifest` and `reason` (why no node ran) only make the error clearer.
    """
    models: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    failed: list[Failure] = []
    warned: list[str] = []
    for node in (document or {}).get("results", ()):
        unique_id, status = str(node["unique_id"]), str(node["status"])
        (tests if unique_id.split(".")[0] in ("test", "unit_test") else models)[status] += 1
        if status in _FAILED:
            failed.append(failure(node, manifest))
        elif status == "warn":
            warned.append(unique_id)
    if error is None:
        if exit_code != 0:
            error = f"dbt ended with exit code {exit_code}"
        elif document is None:
            error = "dbt ended well but left no results of this run"
        elif not models:
            error = "dbt built nothing"
        elif failed or models["skipped"] or tests["skipped"]:
            error = "dbt ended well but its results name failed or skipped nodes"
    ok = error is None
    if error is not None:
        skipped = models["skipped"] + tests["skipped"]
        error = "\n".join(
            [
                *(node.text for node in failed[:FAILURES_SHOWN]),
                *([f"and {more} more"] if (more := len(failed) - FAILURES_SHOWN) > 0 else []),
                *([reason] if reason and not failed else []),
                error + (f"; {skipped} skipped after a failure" if failed and skipped else ""),
            ]
        )
    return DbtResult(
        ok=ok,
        exit_code=exit_code,
        invocation_id=(document or {}).get("metadata", {}).get("invocation_id"),
        seconds=round(seconds, 1),
        models=dict(models),
        tests=dict(tests),
        failed=tuple(sorted(node.unique_id for node in failed)),
        warned=tuple(sorted(warned)),
        select=tuple(dict.fromkeys(one for node in failed for one in node.select)),
        error=error,
    )


def find_dbt() -> str:
    """The dbt beside this interpreter, else the first on PATH. Raises DbtError when there is
    none.
    """
    beside = Path(sys.executable).parent / "dbt"
    found = str(beside) if beside.exists() else shutil.which("dbt")
    if not found:
        raise DbtError(
            "looking for dbt: not beside the interpreter and not on PATH\n"
            "hint: build the image again"
        )
    return found


def run_dbt(
    project_dir: Path,
    *,
    target: str,
    target_path: Path,
    log_path: Path,
    log: Callable[[str], None],
    full_refresh: bool = False,
    timeout: float | None = None,
    command: Sequence[str] = ("build",),
    executable: str | None = None,
    environ: Mapping[str, str] | None = None,
    grace: float = GRACE_SECONDS,
) -> DbtResult:
    """Run `dbt build` in `project_dir` (which may be read-only) and return what it did; lines go to
    `log` as they come.

    Never raises for a failed build: `result.ok` is false then. `timeout` in seconds ends dbt's
    whole process group and makes the result not ok. Any exception in this process, such as the one
    Airflow raises when a task is stopped, ends the group too and goes on. Raises DbtError when dbt
    cannot be started at all.
    """
    if not (project_dir / "dbt_project.yml").is_file():
        raise DbtError(
            f"starting dbt: {project_dir} has no dbt_project.yml\n"
            "hint: check the Airflow Variable project_root"
        )
    for directory in (target_path, log_path):
        directory.mkdir(parents=True, exist_ok=True)
    results_file, manifest_file = target_path / "run_results.json", target_path / "manifest.json"
    results_file.unlink(missing_ok=True)
    manifest_file.unlink(missing_ok=True)
    token = uuid.uuid4().hex
    argv = [
        executable or find_dbt(),
        "--no-use-colors",
        # dbt's own log file would repeat errors with values of rows in them; the caller's log is
        # the log.
        "--log-level-file",
        "none",
        *command,
        "--project-dir",
        str(project_dir),
        "--profiles-dir",
        str(project_dir),
        "--target",
        target,
        "--target-path",
        str(target_path),
        "--log-path",
        str(log_path),
        *(("--full-refresh",) if full_refresh else ()),
    ]
    env = {
        **(os.environ if environ is None else environ),
        _TOKEN_ENV: token,
        "PYTHONUNBUFFERED": "1",
    }
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - argv is data, no shell
            argv,
            cwd=target_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except OSError as error:
        raise DbtError(f"starting dbt: {error.strerror}: {argv[0]}") from error

    timed_out = threading.Event()

    def on_timeout() -> None:
        timed_out.set()
        _end_group(process, grace)

    timer = threading.Timer(timeout, on_timeout) if timeout else None
    scrub = Scrubber()
    said: list[str] = []
    try:
        if timer:
            timer.daemon = True
            timer.start()
        if process.stdout is not None:
            for line in process.stdout:
                if text := scrub(line):
                    log(text)
                    said.append(text)
        exit_code = process.wait()
    finally:
        if timer:
            timer.cancel()
        _end_group(process, grace)
        if process.stdout is not None:
            process.stdout.close()
    error = (
        f"dbt did not end within {timeout:.0f} s and was stopped"
        if timed_out.is_set() and timeout
        else None
    )
    return summarise(
        read_results(results_file, token=token),
        exit_code=exit_code,
        seconds=time.monotonic() - started,
        error=error,
        manifest=_read_manifest(manifest_file) if exit_code != 0 else None,
        reason=cause(said),
    )


def _read_manifest(path: Path) -> dict[str, Any] | None:
    # It bears no token to judge by: where nothing changed, dbt writes that of an earlier parse.
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest if isinstance(manifest, dict) else None
    except (OSError, ValueError):
        return None


def _end_group(process: subprocess.Popen[str], grace: float) -> None:
    """End every process of the group: politely, and after `grace` seconds for good. No-op when all
    have gone.
    """
    for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        if not _group_alive(process):
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signum)
        deadline = time.monotonic() + patience
        while _group_alive(process) and time.monotonic() < deadline:
            time.sleep(0.05)


def _group_alive(process: subprocess.Popen[str]) -> bool:
    process.poll()  # reaps the leader, which would otherwise stay in the group as a zombie
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _die_with_parent() -> None:
    """In the child, before dbt: ask the kernel (Linux) to end it when the parent dies, SIGKILL
    included.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
