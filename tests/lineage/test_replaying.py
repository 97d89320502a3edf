"""A replay confirms a decision, or says in what it differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import update

from freehold.canonical.json import decode, encode_text
from freehold.errors import Conflict, NotFound
from freehold.lab import open_lab
from freehold.lab.schema import decisions
from freehold.lineage.erasing import erase
from freehold.lineage.replaying import replay
from lab_history import History


def test_a_decision_is_confirmed_to_the_last_part_per_billion(history: History) -> None:
    for decision in history.decisions:
        replayed = replay(history.lab, decision)
        assert replayed.holds
        assert replayed.equal_value
        assert replayed.bit_equal
        assert replayed.max_difference == 0
        assert replayed.same_prompt is True
        assert replayed.drift == ()
        assert replayed.candidate_id == history.candidate


@pytest.fixture
def copy_of(history: History, tmp_path: Path) -> Path:
    shutil.copytree(history.lab.root, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("values", "holds", "equal", "difference"),
    [
        ({"value": '"loan"'}, False, False, 0.0),
        ({"probabilities": {"refund": -2_000_000, "card": 2_000_000}}, False, True, 0.002),
        ({"probabilities": {"refund": -900_000, "card": 900_000}}, True, True, 0.0009),
        ({"prompt_commitment": "hmac-sha256:other"}, False, True, 0.0),
    ],
)
def test_what_differs_is_named(
    history: History, copy_of: Path, values: dict[str, object], holds: bool, equal: bool,
    difference: float,
) -> None:  # fmt: skip
    decision = history.decisions[0]
    with open_lab(copy_of) as lab:
        with lab.writing() as connection:
            row = decisions.c.decision_id == decision
            then = connection.execute(decisions.select().where(row)).mappings().one()
            if isinstance(moved := values.get("probabilities"), dict):
                before = decode(then["probabilities"])
                after = {name: before[name] + moved.get(name, 0) for name in before}
                values = {"probabilities": encode_text(after)}
            connection.execute(update(decisions).where(row).values(**values))
        replayed = replay(lab, decision)
    assert (replayed.holds, replayed.equal_value) == (holds, equal)
    assert replayed.max_difference == pytest.approx(difference)
    assert replayed.bit_equal == (difference == 0.0)


def test_another_execution_is_named(history: History, copy_of: Path) -> None:
    with open_lab(copy_of) as lab:
        with lab.writing() as connection:
            row = decisions.c.decision_id == history.decisions[0]
            then = connection.execute(decisions.select().where(row)).mappings().one()
            execution = decode(then["execution"]) | {"isa": "of another age", "batch": "32x128"}
            changed = update(decisions).where(row).values(execution=encode_text(execution))
            connection.execute(changed)
        replayed = replay(lab, history.decisions[0])
    assert replayed.holds
    assert set(replayed.execution) == {"isa", "batch"}
    assert replayed.execution["isa"][0] == "of another age"


def test_what_cannot_be_replayed_is_said(history: History, copy_of: Path) -> None:
    with open_lab(copy_of) as lab:
        with pytest.raises(NotFound, match="no decision 'dec_none'"):
            replay(lab, "dec_none")
        with lab.writing() as connection:
            row = decisions.c.decision_id == history.decisions[1]
            connection.execute(update(decisions).where(row).values(state="failed"))
        with pytest.raises(Conflict, match="is failed: there is no answer to compare with"):
            replay(lab, history.decisions[1])
        erase(lab, item_ids=[history.items[0]], reason="request 17", actor="system")
        with pytest.raises(NotFound, match="was erased, and its answer with it"):
            replay(lab, history.decisions[0])
