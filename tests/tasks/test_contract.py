"""Tasks are read strictly, written from labels, and digested by contract and wording apart."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import func, select

from freehold.errors import Conflict, NotFound, SettingsError
from freehold.evidence.entries import SYSTEM
from freehold.lab import Lab
from freehold.lab.schema import contracts, wordings
from freehold.records.spaces import Choice, Labels, Number
from freehold.tasks.contract import (
    Wording,
    list_tasks,
    load_task,
    recorded_task,
    register_task,
    write_task,
)
from freehold.tasks.reading import parse_task
from freehold.tasks.splits import SplitRule

GOOD = """
name = "support"
[contract]
output = "choice"
options = ["refund", "card_lost"]
"""


def test_a_written_task_reads_back_the_same(sqlite_lab: Lab) -> None:
    """Whatever the output space, and whatever stands in the words."""
    words = Wording('Say "which" \\ one.\nNow.', "gl\tä\x7f", {"refund": "money → back"})
    made = [
        write_task(
            sqlite_lab, "one", Choice(("refund", "it's")), wording=words,
            split=SplitRule("time", dev_from="2025-01-01", test_from="2026-01-01"),
        ),
        write_task(sqlite_lab, "two", Labels(("a", "b"))),
        write_task(sqlite_lab, "three", Number(Decimal("-1.50"), Decimal(10), "mg/l", 5)),
    ]  # fmt: skip
    assert made == [load_task(sqlite_lab, name) for name in ("one", "two", "three")]
    assert list_tasks(sqlite_lab) == ["one", "three", "two"]
    assert write_task(sqlite_lab, "two", Labels(("a", "b"))) == made[1]
    with pytest.raises(Conflict, match="says something else"):
        write_task(sqlite_lab, "two", Labels(("b", "a")))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nme = 1" + GOOD, "unknown key 'nme'; did you mean 'name'"),
        (GOOD + "optoins = []", "unknown key 'contract.optoins'; did you mean 'contract.options'"),
        (GOOD + "[wordings]", "unknown key 'wordings'; did you mean 'wording'"),
        (GOOD + "[split]\nrul = 'hash'", "did you mean 'split.rule'"),
        (GOOD + "[wording.options]\nrefnd = 'x'", "did you mean 'wording.options.refund'"),
        (GOOD.replace("choice", "choise"), "'choise' is not one of .*did you mean 'choice'"),
        (GOOD.replace('"card_lost"', '"refund"'), "'refund' stands there twice"),
        (GOOD.replace('"card_lost"', '" x"'), "begins or ends with space"),
        (GOOD.replace('"card_lost"', "3"), "option 2 is not a name: 3"),
        (GOOD.replace(', "card_lost"', ""), "1 options; a choice task has 2"),
        (GOOD.replace("choice", "labels").replace("refund", "a|b"), "which part labels"),
        (GOOD + "low = 1", "contract.low has no meaning for output 'choice'"),
        (GOOD.replace("support", "Sup port"), "cannot be a task's name"),
        (GOOD + "inputs = ['image']", "this version reads one input"),
        (GOOD + "[wording]\ninstructions = 3", "wording.instructions must be text"),
        (GOOD + "[split]\nrule = 'dice'", r"\[split\]: unknown rule 'dice'"),
        (GOOD + "[split]\nrule = 'group'", "group = COLUMN goes with"),
        (GOOD + "[split]\nrule = 'time'", "needs test_from"),
        (GOOD + "[split]\ntest_percent = 90\ndev_percent = 10", "nothing to train on"),
        (GOOD + "[split]\nrule='time'\ntest_from='soon'", "'soon' is not an ISO 8601 time"),
        (GOOD + "[sampling]\nuniform_percent = 10\nnovel_percent = 90", "uniform 20 or more"),
        ("name = 'n'\n[contract]\noutput = 'number'\nlow = 3\nhigh = 3", "not below"),
        ("name = 'n'\n[contract]\noutput = 'number'\nlow = 'x'", "contract.low must be a number"),
        ("name = 'n'\n[contract]\noutput = 'number'\nlow = 3", "contract.high is missing"),
        ("name = ", "not TOML"),
    ],
)
def test_a_bad_task_is_refused(text: str, match: str) -> None:
    """The error names the file and the key, and the nearest key that there is."""
    with pytest.raises(SettingsError, match=match) as caught:
        parse_task(text, "support.toml")
    assert caught.value.where["file"] == "support.toml"


def test_a_new_task_shows_how_its_options_are_worded(sqlite_lab: Lab) -> None:
    """What is there as a comment is right as soon as the marks are taken off."""
    task = write_task(sqlite_lab, "support", Choice(("refund", 'a "b" c')))
    path = sqlite_lab.layout.tasks / "support.toml"
    said = path.read_text().replace("# [w", "[w").replace('# "', '"').replace('= ""\n#', "#")
    worded = parse_task(said.replace('"refund" = ""', '"refund" = "money back"'))
    assert worded.contract_digest == task.contract_digest
    assert worded.wording.options["refund"] == "money back"


def test_a_missing_task_says_which_there_are(sqlite_lab: Lab) -> None:
    write_task(sqlite_lab, "support", Choice(("a", "b")))
    with pytest.raises(NotFound, match="no task 'supprt'; this lab has: support"):
        load_task(sqlite_lab, "supprt")
    (sqlite_lab.layout.tasks / "other.toml").write_text(GOOD)
    with pytest.raises(SettingsError, match="name is 'support', but the file is called"):
        load_task(sqlite_lab, "other")


def test_better_guidelines_leave_the_contract(lab: Lab) -> None:
    """Contract and wording are registered once each, and come back as they were."""
    task = parse_task(GOOD)
    reworded = parse_task(GOOD + "[wording]\nguidelines = 'Refund wins.'")
    assert task.contract_digest == reworded.contract_digest
    assert task.wording_digest != reworded.wording_digest
    for one in (task, task, reworded):
        with lab.writing() as connection:
            register_task(lab, connection, one, SYSTEM)
    with lab.reading() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (contracts, wordings)
        ]
        back = recorded_task(connection, task.contract_digest, reworded.wording_digest)
    assert counts == [1, 2]
    assert back.question() == reworded.question()
    assert back.wording.guidelines == "Refund wins."
