"""The command line: parse, call, render."""

from __future__ import annotations

from collections.abc import Callable

import typer

from freehold.cli import (
    assess_verbs,
    bundle_verbs,
    data_verbs,
    demo_verbs,
    lab_verbs,
    ledger_verbs,
    lineage_verbs,
    model_verbs,
    people_verbs,
    release_verbs,
    review_verbs,
    run_verbs,
    train_verbs,
)

VERBS: tuple[Callable[[typer.Typer], None], ...] = (
    lab_verbs.register,
    demo_verbs.register,
    assess_verbs.register,
    people_verbs.register,
    model_verbs.register,
    run_verbs.register,
    review_verbs.register,
    data_verbs.register,
    train_verbs.register,
    release_verbs.register,
    ledger_verbs.register,
    lineage_verbs.register,
    bundle_verbs.register,
)
