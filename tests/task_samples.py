"""A small task, a scripted model and files of rows, for tests of rooms above `tasks`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import func, select

from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.schema import decisions
from freehold.models.intake import seal_model
from freehold.records.spaces import Choice, Space
from freehold.tasks.contract import Task, write_task

OPTIONS = ("refund", "card_lost", "loan")
SCRIPT = """
format = "freehold-scripted/1"
rule = "keywords"
seed = "s"
fail_on = ["BOOM"]
latency_ms = {latency}
[keywords]
refund = ["money back", "refund"]
card_lost = ["card"]
"""


def support_task(lab: Lab, space: Space | None = None) -> Task:
    """A task named support, its file written into the lab."""
    return write_task(lab, "support", space or Choice(OPTIONS))


def scripted_model(lab: Lab, *, name: str = "fake", latency: int = 0, script: str = SCRIPT) -> str:
    """A scripted model in the lab; returns its digest."""
    directory = lab.root.parent / f"model-{name}"
    directory.mkdir()
    (directory / "scripted.toml").write_text(script.replace("{latency}", str(latency)))
    with lab.writing() as connection:
        return seal_model(
            lab, connection, directory,
            kind="base", form="scripted", name=name, edges=[], run_id=None, actor="system",
        )  # fmt: skip


def write_csv(path: Path, texts: Iterable[str], *, ids: bool = True) -> Path:
    """A CSV file of texts without commas, with ids ``q0``, ``q1`` … where asked."""
    head = "id,text\n" if ids else "text\n"
    rows = [f"q{place},{text}\n" if ids else f"{text}\n" for place, text in enumerate(texts)]
    path.write_text(head + "".join(rows), encoding="utf-8")
    return path


def require_sound(lab: Lab, items: int) -> None:
    """Assert: no gap in the numbers, nothing open, one answer an item, every row as bound."""
    with lab.reading() as connection:
        numbers = connection.execute(
            select(decisions.c.number).order_by(decisions.c.number)
        ).scalars()
        found = list(numbers)
        states = connection.execute(select(decisions.c.state, decisions.c.item_id)).all()
        answered = [row.item_id for row in states if row.state == "answered"]
        open_ones = connection.execute(
            select(func.count()).select_from(decisions).where(decisions.c.state == "admitted")
        ).scalar_one()
    assert found == list(range(1, len(found) + 1))
    assert open_ones == 0
    assert len(answered) == len(set(answered)) == items
    assert verify_lab(lab).faults == ()
