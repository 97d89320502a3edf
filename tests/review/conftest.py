"""A task, people and a file to begin with, for the tests of reviewing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from freehold.canonical.json import encode_text
from freehold.evidence.people import add_person
from freehold.lab import Lab
from freehold.records.spaces import Choice, Space
from freehold.tabular import open_table
from freehold.tasks.contract import Task, register_task, write_task
from freehold.tasks.decisions import Answer, Asked, Asking, Recorder, admit, close_answered
from freehold.tasks.splits import SplitRule
from freehold.workflows.ingest import ingest
from review_files import OPTIONS, write_csv


@pytest.fixture
def person(lab: Lab) -> Callable[[str], str]:
    """Add somebody to the lab and return their pseudonym."""

    def added(name: str) -> str:
        with lab.writing() as connection:
            return add_person(lab, connection, name, roles=("reviewer",)).principal_id

    return added


@pytest.fixture
def new_task(lab: Lab, person: Callable[[str], str]) -> Callable[..., Task]:
    """Write and register a task of a lab."""

    def made(name: str = "support", space: Space | None = None) -> Task:
        space = space or Choice(OPTIONS)
        task = write_task(lab, name, space, split=SplitRule(dev_percent=0, test_percent=0))
        actor = person("ines")
        with lab.writing() as connection:
            register_task(lab, connection, task, actor)
        return task

    return made


@pytest.fixture
def take_in(
    lab: Lab, person: Callable[[str], str], tmp_path: Path
) -> Callable[[Task, Iterable[Mapping[str, Any]]], list[str]]:
    """Take rows in as items and return their ids."""

    def taken(task: Task, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        path = write_csv(tmp_path / "items.csv", rows)
        return ingest(lab, task, open_table(path), actor=person("ines")).item_ids

    return taken


@pytest.fixture
def decide(lab: Lab, person: Callable[[str], str]) -> Callable[..., list[str]]:
    """Let a candidate answer items: one (value, probabilities) for each; return decision ids."""

    def decided(
        task: Task,
        ids: Iterable[str],
        answers: Iterable[tuple[str, dict[str, int]]],
        candidate: str,
    ) -> list[str]:
        asking = Asking(
            task=task.name,
            contract_digest=task.contract_digest,
            wording_digest=task.wording_digest,
            purpose="trial",
            model_digest="sha256:" + "0" * 64,
            identity_basis="loaded",
            candidate_id=candidate,
        )
        given = [Answer(encode_text(v), encode_text(p), calibrated=False) for v, p in answers]
        actor = person("ines")
        with lab.writing() as connection:
            recorder = Recorder(lab, connection, actor)
            rows = admit(recorder, asking, [Asked(item, None, None) for item in ids])
            return [row["decision_id"] for row in close_answered(recorder, rows, given)]

    return decided
