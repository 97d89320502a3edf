"""Suites: gold labels only, counted where they are not, frozen once."""

from __future__ import annotations

import pytest

from datasets_in_labs import Fill, on_sqlite
from freehold.datasets.building import build_dataset
from freehold.datasets.leaks import leak_check
from freehold.datasets.suites import (
    SuiteTerms,
    erased_cases,
    freeze_suite,
    get_suite,
    list_suites,
    suite_cases,
)
from freehold.errors import InputError, NotFound, Refused
from freehold.lab import Lab
from labelled_files import blank_item, item_of, row, some_rows


def test_cases_carry_value_cluster_and_slices(lab: Lab, fill: Fill) -> None:
    rows = [dict(one, entity="c1", language="en") for one in some_rows(3, "test")]
    suite = freeze_suite(lab, "support", name="s", actor=fill([*rows, *some_rows(2)]))
    cases = list(suite_cases(lab, suite.suite_id))
    texts = {one["text"]: one["label"] for one in rows}
    assert {case.text: case.value for case in cases} == texts
    assert len({case.cluster_key for case in cases}) == 1
    assert {case.slices["language"] for case in cases} == {"en"}
    assert (suite.cases, suite.manifest["clusters"], suite.blocks) == (3, 1, True)
    assert "c1" not in {case.cluster_key for case in cases}


@on_sqlite
def test_past_work_does_not_judge(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(3, "test"), kind="historical")
    with pytest.raises(Refused, match="no test item of task support has a gold label: 3 contam"):
        freeze_suite(lab, "support", name="s", actor=actor)
    assert list_suites(lab) == []


@on_sqlite
def test_contaminated_labels_are_left_out_and_counted(lab: Lab, fill: Fill) -> None:
    fill(some_rows(3, "test"), kind="historical", source="past")
    fresh = [dict(one, id=f"new{n}", text=f"new {n} {one['text']}")
             for n, one in enumerate(some_rows(4, "test"))]  # fmt: skip
    actor = fill(fresh)
    suite = freeze_suite(lab, "support", name="s", actor=actor)
    assert (suite.cases, suite.manifest["left_out"]) == (4, {"contaminated": 3})
    with pytest.raises(Refused, match="task support has a gold label: 3 contaminated"):
        freeze_suite(lab, "support", name="t", actor=actor, terms=SuiteTerms(require_all=True))


@on_sqlite
def test_the_same_cases_are_the_same_suite(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(3, "test"))
    first = freeze_suite(lab, "support", name="s", actor=actor)
    again = freeze_suite(lab, "support", name="s", actor=actor)
    open_ = freeze_suite(lab, "support", name="s", actor=actor, terms=SuiteTerms(blocks=False))
    assert (first.is_new, again.is_new, open_.number) == (True, False, 2)
    assert again.suite_id == first.suite_id
    assert get_suite(lab, "s").number == 2
    assert get_suite(lab, "s@1").suite_id == get_suite(lab, first.suite_id).suite_id


@on_sqlite
def test_erased_cases_judge_no_more(lab: Lab, fill: Fill) -> None:
    suite = freeze_suite(lab, "support", name="s", actor=fill(some_rows(3, "test")))
    blank_item(lab, item_of(lab, "test1"))
    assert len(list(suite_cases(lab, suite.suite_id))) == 2
    assert erased_cases(lab, suite.suite_id) == 1


def test_train_items_judge_nothing() -> None:
    with pytest.raises(InputError, match="come from test or dev, not from 'train'"):
        SuiteTerms("train")


@on_sqlite
def test_an_unknown_suite_names_those_there_are(lab: Lab, fill: Fill) -> None:
    freeze_suite(lab, "support", name="s", actor=fill(some_rows(3, "test")))
    with pytest.raises(NotFound, match="no suite 'x'; this lab has: s"):
        get_suite(lab, "x")


def test_a_dataset_is_checked_against_a_suite(lab: Lab, fill: Fill) -> None:
    """A dataset built from dev and train beside a later suite of the same dev items leaks."""
    actor = fill([*some_rows(4), *some_rows(2, "dev"), row("gone", "one that will be erased")])
    dataset = build_dataset(lab, "support", name="d", actor=actor)
    suite = freeze_suite(lab, "support", name="s", actor=actor, terms=SuiteTerms("dev"))
    blank_item(lab, item_of(lab, "gone"))
    leaks = leak_check(lab, dataset.dataset_id, suite.suite_id)
    assert leaks.counts == {
        "same_item": 2, "exact": 0, "normalised": 0, "near_duplicate": 0, "word_run": 0,
        "entity": 0,
    }  # fmt: skip
    assert (leaks.rows, leaks.cases, leaks.erased) == (7, 2, 1)
    assert (leaks.leaking_rows, leaks.leaked_cases) == (2, 2)
    with pytest.raises(NotFound, match="has the suite_id nothing"):
        leak_check(lab, dataset.dataset_id, "nothing")
