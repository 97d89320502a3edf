"""The real command line, in this process or in one of its own, and small labs to use it on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from freehold.cli.main import main

OPTIONS = ("refund", "card", "loan")
WORDS = {"refund": "money back", "card": "card lost", "loan": "borrow some"}
SCRIPT = """
format = "freehold-scripted/1"
rule = "keywords"
seed = "s"
latency_ms = {latency}
[keywords]
refund = ["money back"]
card = ["card lost"]
loan = ["borrow some"]
"""
PROGRAM = [sys.executable, "-m", "freehold.cli.main"]


@dataclass(frozen=True)
class Done:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error on standard error, in its one JSON shape."""
        assert self.err.startswith('{"error"'), self.err
        said: dict[str, Any] = json.loads(self.err)["error"]
        assert set(said) == {"code", "message", "hint", "where"}
        return said


def freehold(*arguments: object) -> Done:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    # The environment is the process's: what the command line sets must not reach other tests.
    with (
        patch.object(sys, "argv", ["freehold", *map(str, arguments)]),
        patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def ok(*arguments: object) -> Any:
    """Run a command that must succeed; return its JSON document."""
    done = freehold(*arguments, "--json")
    assert done.code == 0, done.err
    return done.document


def start(*arguments: object, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a command in a process of its own; `before` is put in front of it."""
    return subprocess.Popen(
        [*before, *PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> Done:
    """Wait for a process that `start` started."""
    out, err = process.communicate(timeout=seconds)
    return Done(process.returncode, out, err)


def apart(*arguments: object, before: Sequence[str] = ()) -> Done:
    """Run a command in a process of its own."""
    return finish(start(*arguments, before=before))


def rows(count: int, split: str = "train") -> list[dict[str, str]]:
    """Labelled rows of one split; each text holds the words of its label, no two are twins."""
    return [
        {
            "id": f"{split}{n}",
            "text": f"{split} {n} {n * 7919:x} {WORDS[OPTIONS[n % 3]]} {n * n:x} please {n}",
            "label": OPTIONS[n % 3],
            "split": split,
        }
        for n in range(count)
    ]


def write_rows(path: Path, listed: Iterable[dict[str, str]]) -> Path:
    """Write labelled rows to a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text", "label", "split"])
        writer.writeheader()
        writer.writerows(listed)
    return path


def make_lab(lab: Path, *, database: str = "", latency: int = 0) -> Path:
    """A lab with the task desk and the scripted model fake."""
    ok("init", lab, *(["--database", database] if database else []))
    ok("-C", lab, "tasks", "new", "desk", *(part for one in OPTIONS for part in ("--label", one)))
    folder = lab.with_name(f"{lab.name}-fake")
    folder.mkdir()
    (folder / "scripted.toml").write_text(SCRIPT.format(latency=latency))
    ok("-C", lab, "models", "add", folder, "--name", "fake")
    return lab


def counts(lab: Path) -> dict[str, int]:
    """How many of each thing the lab holds."""
    counted: dict[str, int] = ok("-C", lab, "status")["counts"]
    return counted


def require_sound(lab: Path, expected: dict[str, int] | None = None) -> None:
    """The lab verifies, and holds what is expected of it."""
    found = ok("-C", lab, "ledger", "verify")
    assert found["ok"], found["faults"]
    if expected is not None:
        held = counts(lab)
        assert {name: held[name] for name in expected} == expected, held
