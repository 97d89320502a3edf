"""Reading datasets back: references, pages, differences."""

from __future__ import annotations

from decimal import Decimal

import pytest

from datasets_in_labs import Fill, on_sqlite
from freehold.datasets.building import build_dataset
from freehold.datasets.reading import dataset_rows, diff_datasets, get_dataset
from freehold.errors import NotFound
from freehold.lab import Lab
from freehold.records.spaces import Labels
from labelled_files import OPTIONS, blank_item, item_of, row, some_rows


def test_rows_come_with_their_texts_in_pages(lab: Lab, fill: Fill) -> None:
    written = [*some_rows(520), *some_rows(3, "dev")]
    dataset = build_dataset(lab, "support", name="d", actor=fill(written))
    everything = list(dataset_rows(lab, dataset.dataset_id))
    train = list(dataset_rows(lab, dataset.dataset_id, "train"))
    assert {one.text: one.value for one in everything} == {
        one["text"]: one["label"] for one in written
    }
    assert len(train) == 520
    assert {one.weight for one in train} == {Decimal(1)}
    assert len({one.row_id for one in everything}) == 523


@on_sqlite
def test_several_labels_come_back_as_a_list(lab: Lab, fill: Fill) -> None:
    rows = [row("a", "my card and my loan", "card|loan")]
    actor = fill(rows, space=Labels(OPTIONS))
    dataset = build_dataset(lab, "support", name="d", actor=actor)
    assert [one.value for one in dataset_rows(lab, dataset.dataset_id)] == [["card", "loan"]]


@on_sqlite
def test_a_dataset_has_three_names(lab: Lab, fill: Fill) -> None:
    actor = fill(some_rows(3))
    first = build_dataset(lab, "support", name="d", actor=actor)
    fill(some_rows(4))
    second = build_dataset(lab, "support", name="d", actor=actor)
    found = [get_dataset(lab, name).number for name in ("d", "d@1", "d@2", first.dataset_id)]
    assert found == [2, 1, 2, 1]
    assert get_dataset(lab, second.dataset_id).manifest == second.manifest


@pytest.mark.parametrize("name", ["x", "d@7", "ds_0", ""])
@on_sqlite
def test_an_unknown_dataset_names_those_there_are(lab: Lab, fill: Fill, name: str) -> None:
    build_dataset(lab, "support", name="d", actor=fill(some_rows(3)))
    with pytest.raises(NotFound, match=f"no dataset '{name}'; this lab has: d"):
        get_dataset(lab, name)


def test_a_difference_names_items_and_reasons(lab: Lab, fill: Fill) -> None:
    rows = some_rows(5)
    actor = fill(rows)
    build_dataset(lab, "support", name="d", actor=actor)
    changed = [dict(rows[0], label="loan" if rows[0]["label"] != "loan" else "card")]
    fill([*changed, row("new", "a matter that came in later"), row("copy", rows[1]["text"])],
         source="desk")  # fmt: skip
    blank_item(lab, item_of(lab, "train4"))
    build_dataset(lab, "support", name="d", actor=actor)
    diff = diff_datasets(lab, "d@1", "d@2")
    keys = {item_of(lab, key): key for key in ("train0", "new", "copy", "train1")}
    assert [(keys[c.item_id], c.before, c.after) for c in diff.added] == [("new", None, "row")]
    assert [(c.before, c.after) for c in diff.removed] == [("row", None)]
    assert [(keys[c.item_id], c.before) for c in diff.relabelled] == [
        ("train0", f'"{rows[0]["label"]}"')
    ]
    assert [(keys[c.item_id], c.after) for c in diff.exclusions] == [("copy", "duplicate")]
    assert (diff.moved, diff.is_empty) == ((), False)
    assert diff_datasets(lab, "d@2", "d").is_empty
