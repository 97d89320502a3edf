"""The command line: parse, call, render."""

from __future__ import annotations

from collections.abc import Callable

import typer

from freehold.cli import lab_verbs, people_verbs, review_verbs, run_verbs, train_verbs

VERBS: tuple[Callable[[typer.Typer], None], ...] = (
    lab_verbs.register,
    people_verbs.register,
    run_verbs.register,
    review_verbs.register,
    train_verbs.register,
)
