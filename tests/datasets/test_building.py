"""Building: what is in, what is out and why, and that the same labels are the same dataset."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from datasets_in_labs import Fill, on_sqlite
from freehold.canonical.json import decode
from freehold.datasets.building import Terms, build_dataset
from freehold.datasets.reading import dataset_rows, list_datasets, show_dataset
from freehold.datasets.suites import SuiteTerms, freeze_suite
from freehold.errors import InputError, Refused
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.schema import dataset_exclusions, labels
from freehold.lab.schema import dataset_rows as row_table
from labelled_files import OPTIONS, blank_item, item_of, row, some_rows

PARCEL = "please tell me what became of the parcel that i sent to leeds on the second of may"


def excluded(lab: Lab, dataset_id: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Item → the reason for which it is out, and the detail."""
    query = select(dataset_exclusions).where(dataset_exclusions.c.dataset_id == dataset_id)
    with lab.reading() as connection:
        return {
            one.item_id: (one.reason, decode(one.detail) if one.detail else {})
            for one in connection.execute(query)
        }


def test_every_label_is_a_row_or_has_a_reason(lab: Lab, fill: Fill) -> None:
    rows = [
        row("parcel", PARCEL),
        row("shouted", PARCEL.upper() + "!", "card"),
        row("longer", PARCEL + " please", split="dev"),
        row("dev", "a quite different matter of the dev split", "loan", "dev"),
        row("test", "how do I change the PIN of my card", "card", "test"),
        row("leaky", "How do I change the PIN of my card?", "card"),
    ]
    actor = fill(rows)
    dataset = build_dataset(lab, "support", name="d", actor=actor)
    out = excluded(lab, dataset.dataset_id)
    kept = {one.item_id: (one.text, one.value) for one in dataset_rows(lab, dataset.dataset_id)}
    names = {key: item_of(lab, key) for key in ("parcel", "shouted", "longer", "dev", "test")}
    # Of the three parcels the oldest stays, whichever that is among items of one moment.
    parcels = {names[key] for key in ("parcel", "shouted", "longer")}
    assert len(kept) == 2
    assert names["dev"] in kept
    assert len(parcels & kept.keys()) == 1
    (stays,) = parcels & kept.keys()
    assert {out[item][0] for item in parcels - {stays}} <= {"duplicate", "near_duplicate"}
    assert {out[item][1]["kept"] for item in parcels - {stays}} == {stays}
    assert out[names["test"]] == ("in_test", {"way": "same_item", "of": "the test split"})
    leak = out[item_of(lab, "leaky")]
    assert leak[0] == "in_test"
    assert leak[1] == {
        "way": "normalised", "case_item": names["test"], "likeness_ppb": 10**9,
        "of": "the test split",
    }  # fmt: skip
    assert dataset.manifest["left_out"] | {"unlabelled": 0, "erased": 0} == dict(
        Counter(reason for reason, _ in out.values())
    ) | {"unlabelled": 0, "erased": 0}
    assert len(kept) + len(out) == len(rows)


@on_sqlite
def test_a_row_says_where_it_is_from(lab: Lab, fill: Fill) -> None:
    terms = {"licence": "CC-BY-4.0", "consent": "contract"}
    actor = fill([row("a", PARCEL, **terms)])
    dataset = build_dataset(lab, "support", name="d", actor=actor)
    with lab.reading() as connection:
        one = connection.execute(select(row_table)).one()
        label = connection.execute(select(labels)).one()
    assert (one.item_id, one.label_id, one.reviews) == (
        label.item_id,
        label.label_id,
        label.reviews,
    )
    assert (one.licence, one.consent_basis, one.parents) == ("CC-BY-4.0", "contract", "[]")
    assert (one.kind, one.weight_ppb, one.split) == ("label", 10**9, "train")
    assert len(decode(one.reviews)) == 1
    assert dataset.manifest["bases"] == {"agreed": 1}


def test_the_same_labels_are_the_same_version(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(6))
    first = build_dataset(lab, "support", name="d", actor=actor)
    again = build_dataset(lab, "support", name="d", actor=actor)
    other_name = build_dataset(lab, "support", name="e", actor=actor)
    other_terms = build_dataset(lab, "support", name="d", actor=actor, terms=Terms(seed=1))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.dataset_id == first.dataset_id
    assert (first.number, other_name.number, other_terms.number) == (1, 1, 2)
    assert [one.label for one in list_datasets(lab)] == ["d@1", "e@1", "d@2"]


@on_sqlite
def test_another_label_makes_another_version(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(6))
    first = build_dataset(lab, "support", name="d", actor=actor)
    fill(some_rows(7))
    second = build_dataset(lab, "support", name="d", actor=actor)
    assert (second.number, second.rows) == (2, first.rows + 1)
    assert second.root != first.root


def test_the_ledger_holds_for_it(lab: Lab, fill: Fill) -> None:
    actor = fill([*some_rows(6), *some_rows(3, "test"), row("twin", some_rows(1)[0]["text"])])
    dataset = build_dataset(lab, "support", name="d", actor=actor)
    freeze_suite(lab, "support", name="s", actor=actor)
    assert verify_lab(lab).faults == ()
    with lab.writing() as connection:
        connection.execute(row_table.update().where(row_table.c.position == 2).values(split="dev"))
    faults = [fault.where for fault in verify_lab(lab).faults]
    assert faults == [f"dataset_rows/{dataset.dataset_id}/2"]


@on_sqlite
def test_a_blocking_suite_of_dev_items_keeps_them_out(lab: Lab, fill: Fill) -> None:
    actor = fill([*some_rows(4), *some_rows(3, "dev")])
    freeze_suite(lab, "support", name="s", actor=actor, terms=SuiteTerms("dev"))
    dataset = build_dataset(lab, "support", name="d", actor=actor)
    assert dataset.manifest["splits"] == {"train": 4}
    assert dataset.manifest["left_out"]["in_test"] == 3
    assert {detail["of"] for _, detail in excluded(lab, dataset.dataset_id).values()} == {"s@1"}
    assert [one["suite"] for one in dataset.manifest["suites"]] == ["s@1"]


@on_sqlite
def test_a_suite_that_does_not_block_keeps_nothing_out(lab: Lab, fill: Fill) -> None:
    actor = fill([*some_rows(4), *some_rows(3, "dev")])
    freeze_suite(lab, "support", name="s", actor=actor, terms=SuiteTerms("dev", blocks=False))
    assert build_dataset(lab, "support", name="d", actor=actor).rows == 7


@on_sqlite
def test_a_customer_of_the_test_set_does_not_train(lab: Lab, fill: Fill) -> None:
    rows = [dict(one, entity=f"c{n}") for n, one in enumerate(some_rows(4))]
    rows += [dict(one, entity=f"c{n}") for n, one in enumerate(some_rows(2, "test"))]
    actor = fill(rows)
    dataset = build_dataset(lab, "support", name="d", actor=actor)
    ways = Counter(detail["way"] for _, detail in excluded(lab, dataset.dataset_id).values())
    assert (dataset.rows, ways) == (2, {"entity": 2, "same_item": 2})


@on_sqlite
def test_past_work_may_train_and_can_be_left_out(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(5), kind="historical")
    assert build_dataset(lab, "support", name="d", actor=actor).manifest["bases"] == {
        "historical": 5
    }
    with pytest.raises(Refused, match="5 basis"):
        build_dataset(lab, "support", name="d", actor=actor, terms=Terms(include=("agreed",)))


@on_sqlite
def test_no_row_is_refused_and_says_why(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(2, "test"))
    with pytest.raises(Refused, match="no row that may train: 2 in_test"):
        build_dataset(lab, "support", name="d", actor=actor)
    assert list_datasets(lab) == []


def test_erased_items_are_counted_and_not_named(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(5))
    gone = item_of(lab, "train3")
    first = build_dataset(lab, "support", name="d", actor=actor)
    blank_item(lab, gone)
    second = build_dataset(lab, "support", name="d", actor=actor)
    assert (second.rows, second.manifest["left_out"]["erased"]) == (4, 1)
    assert gone not in excluded(lab, second.dataset_id)
    assert gone not in {one.item_id for one in dataset_rows(lab, first.dataset_id)}
    assert show_dataset(lab, first.dataset_id).erased == 1


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"include": ("guessed",)}, "agreed, adjudicated, historical, mapped; got 'guessed'"),
        ({"include": ()}, "got none"),
        ({"near_duplicate_threshold": 0.0}, "above 0 and at most 1"),
    ],
)
def test_impossible_terms_are_refused(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Terms(**terms)


@pytest.mark.parametrize("name", ["", " d", "d ", "d@1"])
def test_names_that_could_not_be_referred_to_are_refused(sqlite_lab: Lab, name: str) -> None:
    with pytest.raises(InputError, match="a dataset's name has no '@'"):
        build_dataset(sqlite_lab, "support", name=name, actor="system")


@on_sqlite
def test_progress_counts_the_rows(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(4))
    seen: list[tuple[int, int]] = []
    build_dataset(lab, "support", name="d", actor=actor, on_progress=lambda *at: seen.append(at))
    assert seen[-1] == (4, 4)


@on_sqlite
def test_values_are_counted_by_split(lab: Lab, fill: Fill) -> None:
    actor = fill([*some_rows(6), *some_rows(3, "dev")])
    build_dataset(lab, "support", name="d", actor=actor)
    summary = show_dataset(lab, "d")
    assert summary.splits == {"train": 6, "dev": 3}
    assert summary.values == {"train": dict.fromkeys(OPTIONS, 2), "dev": dict.fromkeys(OPTIONS, 1)}
    assert (summary.bases, summary.licences) == ({"agreed": 9}, {"not stated": 9})
