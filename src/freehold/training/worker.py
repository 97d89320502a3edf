"""The process that trains: ``python -m freehold.training.worker RUN_DIR``.

A plain script over a run folder, so that it works under `python`, a launcher or a scheduler, and so
that it can be killed at any instant without harm to the lab that started it. It begins a planned
run or goes on with one that was stopped, writes nothing outside its folder, and ends with the exit
code of the error tree; an error is one JSON line on standard error.

One worker at a time writes a folder, and a worker that a driver launched ends with its driver: else
the driver's successor would start a second one beside it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from freehold.errors import EngineError, FreeholdError
from freehold.training.causal import quiet_environment
from freehold.training.events import OnEvent, read_events, request_stop
from freehold.training.run import Outcome, read_outcome, resume

_LOOK_EVERY = 0.1
_DRIVEN = "--driven"
_ORPHANED = 143  # what a shell calls a process that was told to end


def main(arguments: list[str]) -> int:
    """Train the run in the folder named; return the exit code."""
    if len(arguments) != 1 and arguments[1:] != [_DRIVEN]:
        sys.stderr.write("usage: python -m freehold.training.worker RUN_DIR\n")
        return 2
    run_dir = Path(arguments[0])
    quiet_environment()
    signal.signal(signal.SIGTERM, lambda *_: request_stop(run_dir))
    if arguments[1:]:
        threading.Thread(target=_end_with_driver, daemon=True).start()
    try:
        with (run_dir / "worker.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # an orphan may need a moment to end
            resume(run_dir)
    except FreeholdError as error:
        sys.stderr.write(json.dumps(error.as_json(), ensure_ascii=False, default=str) + "\n")
        return error.exit_code
    return 0


def launch(run_dir: Path, on_event: OnEvent | None = None, *, threads: int = 0) -> Outcome:
    """Train in a process of its own and report its events as they come.

    Raises the error that the worker ended with, by its class; EngineError when it was killed.
    """
    # Waiting threads sleep instead of spinning: where cores are shared, spinning slows the work.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    seen = sum(1 for _ in read_events(run_dir))
    with (run_dir / "worker.log").open("wb") as errors:
        worker = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-m", "freehold.training.worker", str(run_dir), _DRIVEN],
            stdin=subprocess.PIPE,
            stderr=errors,
            stdout=errors,
            env=environment,
        )
        try:
            while worker.poll() is None:
                time.sleep(_LOOK_EVERY)
                seen = _report(run_dir, seen, on_event)
        except BaseException:
            worker.terminate()  # it writes a checkpoint and stops
            worker.wait()
            raise
        finally:
            if worker.stdin is not None:
                worker.stdin.close()
    _report(run_dir, seen, on_event)
    if worker.returncode:
        raise _error_of(run_dir, worker.returncode)
    return read_outcome(run_dir)


def _end_with_driver() -> None:
    # Nothing is ever sent: the pipe ends when the driver does, however it died.
    os.read(sys.stdin.fileno(), 1)
    os._exit(_ORPHANED)


def _report(run_dir: Path, seen: int, on_event: OnEvent | None) -> int:
    events = list(read_events(run_dir))
    if on_event is not None:
        for event in events[seen:]:
            on_event(event)
    return len(events)


def _error_of(run_dir: Path, code: int) -> FreeholdError:
    lines = (run_dir / "worker.log").read_text(encoding="utf-8", errors="replace").splitlines()
    if code > 0 and lines and lines[-1].startswith('{"error":'):
        said: dict[str, Any] = json.loads(lines[-1])["error"]
        kind = next((k for k in _tree(FreeholdError) if k.code == said["code"]), FreeholdError)
        return kind(said["message"], hint=said["hint"], **said["where"])
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    last = f": {lines[-1]}" if lines else ""
    return EngineError(
        f"the training process {how}{last}",
        hint=f"Resume the run; the process's output is in {run_dir / 'worker.log'}.",
    )


def _tree(kind: type[FreeholdError]) -> list[type[FreeholdError]]:
    return [kind, *(inner for child in kind.__subclasses__() for inner in _tree(child))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
