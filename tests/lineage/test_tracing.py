"""`trace` answers who taught a model, and which models have seen an item."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from freehold.errors import NotFound
from freehold.lab.schema import dataset_rows, labels
from freehold.lineage.links import KINDS, ORIGINS, RESULTS
from freehold.lineage.tracing import kind_of, trace
from lab_history import History


def test_from_a_decision_back_to_the_people_who_taught_it(history: History) -> None:
    traced = trace(history.lab, history.decisions[0])
    assert traced.origin_ids("release") == [history.release.release_id]
    assert history.candidate in traced.origin_ids("candidate")
    assert history.model in traced.origin_ids("model")
    assert traced.origin_ids("run") == [history.run]
    assert traced.origin_ids("dataset") == [history.dataset]
    with history.lab.reading() as connection:
        rows = select(func.count()).select_from(dataset_rows)
        count = connection.execute(
            rows.where(dataset_rows.c.dataset_id == history.dataset)
        ).scalar_one()
    taught = next(node for node in traced.origins.walk() if node.kind == "dataset")
    assert len(taught.branches) == count
    reviewers = {node.facts["principal_id"] for node in taught.walk() if node.kind == "review"}
    assert len(reviewers) == 1
    assert traced.result_ids("review") == [history.review]


def test_from_an_item_on_to_every_model_that_saw_it(history: History) -> None:
    with history.lab.reading() as connection:
        item = (
            connection.execute(
                select(dataset_rows.c.item_id).where(dataset_rows.c.dataset_id == history.dataset)
            )
            .scalars()
            .first()
        )
    traced = trace(history.lab, str(item))
    assert traced.result_ids("model") == [history.model]
    assert traced.result_ids("release") == [history.release.release_id]
    assert {*history.decisions} <= {*traced.result_ids("decision")}
    again = [node for node in traced.results.walk() if node.id == history.model]
    assert [node.repeated for node in again] == [False] + [True] * (len(again) - 1)


def test_long_lists_show_their_beginning_and_count_the_rest(history: History) -> None:
    traced = trace(history.lab, history.dataset, most=2)
    assert len(traced.origins.branches) == 2
    with history.lab.reading() as connection:
        rows = select(func.count()).select_from(dataset_rows)
        count = connection.execute(
            rows.where(dataset_rows.c.dataset_id == history.dataset)
        ).scalar_one()
    assert traced.origins.left_out == (("holds label", count - 2),)
    assert traced.record()["origins"]["left_out"] == {"holds label": count - 2}


def test_every_kind_can_be_traced_both_ways(history: History) -> None:
    for name, kind in KINDS.items():
        with history.lab.reading() as connection:
            one = connection.execute(select(kind.key).limit(1)).scalar()
        if one is None:
            assert name == "export"
            continue
        with history.lab.reading() as connection:
            assert kind_of(connection, one) == name
        traced = trace(history.lab, one)
        assert traced.origins.kind == traced.results.kind == name
    leads_somewhere = {*ORIGINS} | {*RESULTS} | {"licence", "contract", "plan", "export"}
    assert leads_somewhere == {*KINDS}


def test_links_lead_to_each_other(history: History) -> None:
    """Whatever a walk back finds from a release, a walk on from there comes back to it."""
    release = history.release.release_id
    back = trace(history.lab, release)
    for node in back.origins.walk():
        if node.kind in ("label", "item", "dataset", "run", "model", "candidate", "verdict"):
            there = trace(history.lab, node.id, most=1000)
            reached = there.result_ids("release")
            judged = there.result_ids("verdict")
            assert release in reached or judged or node.facts.get("name") == "poor", node


def test_ids_of_nothing_are_refused(history: History) -> None:
    with pytest.raises(NotFound, match="nothing in this lab has the id 'dec_none'"):
        trace(history.lab, "dec_none")


def test_a_label_knows_the_review_that_counts_in_it(history: History) -> None:
    with history.lab.reading() as connection:
        label = (
            connection.execute(
                select(labels.c.label_id).where(labels.c.item_id == history.items[0])
            )
            .scalars()
            .first()
        )
    assert label in trace(history.lab, history.review).result_ids("label")
