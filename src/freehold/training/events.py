"""What a run reports while it works: one JSON line per event, appended to ``events.jsonl``.

A worker writes, a driver reads; the driver alone writes the lab. Every line is flushed at once, and
the file is synced to disk with each checkpoint, so that after a crash it reaches at least as far as
the newest checkpoint. Steps after that checkpoint are done again by a resumed run and then stand
twice: the later line counts. A line that a crash cut is set right, and said, on reopening.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from freehold.errors import Cancelled, IntegrityError
from freehold.records.clock import now

EVENTS_FILE = "events.jsonl"
CANCEL_FILE = "cancel"

OnEvent = Callable[[dict[str, Any]], None]


class EventLog:
    """Appends events; one writer at a time."""

    def __init__(self, run_dir: Path, on_event: OnEvent | None = None) -> None:
        """Open the file at its end, after the last whole line."""
        self._run_dir = run_dir
        self._on_event = on_event
        path = run_dir / EVENTS_FILE
        cut = _cut_torn_line(path)
        self._stream = path.open("a", encoding="utf-8")
        if cut:
            self.write("torn_line_removed", bytes=cut)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.sync()
        self._stream.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event. `fields` may hold floats: nothing hashes this file."""
        event = {"event": kind, "at": now(), **fields}
        self._stream.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._stream.flush()
        if self._on_event is not None:
            self._on_event(event)

    def sync(self) -> None:
        """Make everything written so far durable."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def stop_requested(self) -> bool:
        """Return whether someone asked the run to stop (`request_stop`)."""
        return (self._run_dir / CANCEL_FILE).exists()


def request_stop(run_dir: Path) -> None:
    """Ask a run to stop at its next step; it writes a checkpoint first."""
    (run_dir / CANCEL_FILE).touch()


def cancelled(run_dir: Path, step: int) -> Cancelled:
    """Return the error of a run that stopped on request; a later resume is not stopped again."""
    (run_dir / CANCEL_FILE).unlink(missing_ok=True)
    return Cancelled(
        f"run in {run_dir} stopped on request after step {step}",
        hint="The checkpoint is kept; `freehold train --resume` goes on from it.",
        step=step,
    )


def read_events(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines written so far; a cut last line is left for the writer to set right."""
    path = run_dir / EVENTS_FILE
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise IntegrityError(f"{path}, line {number}: not JSON ({error})") from error


def _cut_torn_line(path: Path) -> int:
    if not path.is_file():
        return 0
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as stream:
            stream.truncate(whole)
    return len(data) - whole
