"""Evaluating a candidate in a lab: every case once, whole or not at all, and what is kept of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, select

from freehold.canonical.json import decode
from freehold.errors import Conflict, LabBusy, NotFound, Refused, SettingsError
from freehold.evaluation import run
from freehold.evaluation.run import (
    evaluate,
    evaluation_record,
    find_evaluation,
    list_evaluations,
    results_of,
    uses_of,
)
from freehold.evaluation.scoring import metric_names, score
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.schema import evaluation_results
from freehold.records.spaces import Choice, Labels, Number, Space
from freehold.tasks.contract import write_task
from freehold.workflows.exclusive import only_process
from gated_labs import bench
from labelled_files import blank_item, item_of

AB = Choice(("a", "b"))
SURE = {"a": 900_000_000, "b": 100_000_000}


@pytest.mark.parametrize(
    ("space", "truth", "value", "shares", "scores"),
    [
        (AB, "a", "a", SURE, {"correct": 1, "brier": "0.020000", "log_loss": "0.105361"}),
        (AB, "b", "a", SURE, {"correct": 0, "brier": "1.620000", "log_loss": "2.302585"}),
        (AB, "a", None, None, {"correct": 0, "brier": "2.000000", "log_loss": "20.723266"}),
        (Labels(("a", "b")), ["a"], ["a"], None, {"correct": 1, "f1": "1.000000"}),
        (Labels(("a", "b")), ["a"], ["a", "b"], None, {"correct": 0, "f1": "0.666667"}),
        (Labels(("a", "b")), [], [], None, {"correct": 1, "f1": "1.000000"}),
        (Labels(("a", "b")), [], None, None, {"correct": 0, "f1": "0.000000"}),
        (
            Number(Decimal(0), Decimal(100)),
            "50",
            "58",
            None,
            {"correct": 1, "absolute_error": "8.000000"},
        ),
        (
            Number(Decimal(0), Decimal(100)),
            "50",
            "61",
            None,
            {"correct": 0, "absolute_error": "11.000000"},
        ),
        (
            Number(Decimal(0), Decimal(100)),
            "50",
            None,
            None,
            {"correct": 0, "absolute_error": "100.000000"},
        ),
    ],
)
def test_the_scores_of_one_answer(
    space: Space,
    truth: object,
    value: object,
    shares: dict[str, int] | None,
    scores: dict[str, int | str],
) -> None:
    assert score(space, truth, value, shares) == scores
    assert tuple(scores) == metric_names(space)


def test_every_case_is_scored_once_and_bound(lab: Lab, tmp_path: Path) -> None:
    desk = bench(lab, tmp_path)
    candidate = desk.candidate("some", ("refund", "card"), fail_on="case 6 ")
    seen: list[tuple[int, int]] = []
    evaluation_id = evaluate(
        lab,
        candidate,
        "desk-test",
        actor=desk.actor,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    record = evaluation_record(lab, evaluation_id)
    assert (record.state, record.again, seen[-1]) == ("done", False, (60, 60))
    results = results_of(lab, evaluation_id)
    assert len(results) == len({one.case_id for one in results}) == 60
    assert {one.slices["language"] for one in results} == {"de", "en"}
    assert record.metrics is not None
    accuracy, macro = record.metrics["accuracy"], record.metrics["macro_f1"]
    right = sum(int(one.scores["correct"]) for one in results)
    assert right >= 39  # refund and card, but for the case that failed, and some loans by chance
    assert accuracy["value"] == f"{right / 60:.6f}"
    assert accuracy["n"] == macro["n"] == 60
    assert Decimal(accuracy["low"]) < Decimal(accuracy["value"]) < Decimal(accuracy["high"])
    assert (record.metrics["failed"], record.metrics["calibration"]["n"]) == (1, 59)
    assert ["refund", "(no answer)", 1] in record.metrics["confusion"]
    assert set(record.metrics["run"]) == {"latency_p50", "latency_p95", "tokens_in", "ece"}
    assert evaluate(lab, candidate, desk.suite.suite_id, actor=desk.actor) == evaluation_id
    assert verify_lab(lab).faults == ()


def test_another_run_measures_noise_and_is_no_new_use(sqlite_lab: Lab, tmp_path: Path) -> None:
    desk = bench(sqlite_lab, tmp_path)
    one, two = desk.candidate("one"), desk.candidate("two", ("card",))
    first = evaluate(sqlite_lab, one, "desk-test", actor=desk.actor)
    again = evaluate(sqlite_lab, one, "desk-test", actor=desk.actor, again=True)
    assert first != again
    assert evaluation_record(sqlite_lab, again).execution["policy"]["order"] == "backwards"
    assert results_of(sqlite_lab, first) == results_of(sqlite_lab, again)
    assert uses_of(sqlite_lab, desk.suite.suite_id) == 1
    evaluate(sqlite_lab, two, "desk-test", actor=desk.actor)
    assert uses_of(sqlite_lab, desk.suite.suite_id) == 2
    assert len(list_evaluations(sqlite_lab, "support")) == 3
    assert find_evaluation(sqlite_lab, two, desk.suite.suite_id, again=True) is None


def test_a_killed_evaluation_is_not_read_and_goes_on(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = bench(lab, tmp_path)
    candidate = desk.candidate("one")
    monkeypatch.setitem(run.FIRST, "chunk", 20)

    def kill(done: int, _: int) -> None:
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(lab, candidate, "desk-test", actor=desk.actor, on_progress=kill)
    half = find_evaluation(lab, candidate, desk.suite.suite_id)
    assert half is not None
    assert half.state == "running"
    with pytest.raises(Refused, match="is not done"):
        results_of(lab, half.evaluation_id)
    with lab.reading() as connection:
        before = connection.execute(select(evaluation_results)).all()
    assert len(before) == 40
    evaluation_id = evaluate(lab, candidate, "desk-test", actor=desk.actor)
    assert evaluation_id == half.evaluation_id
    with lab.reading() as connection:
        after = connection.execute(
            select(evaluation_results).order_by(evaluation_results.c.position)
        ).all()
    assert set(before) < set(after)
    assert [row.position for row in after] == list(range(60))
    assert verify_lab(lab).faults == ()


def test_one_process_at_a_time(sqlite_lab: Lab, tmp_path: Path) -> None:
    desk = bench(sqlite_lab, tmp_path, 6)
    candidate = desk.candidate("one")
    name = f"evaluation-{desk.suite.suite_id}-{candidate.removeprefix('sha256:')[:16]}-first"
    with only_process(sqlite_lab, name), pytest.raises(LabBusy, match="another process"):
        evaluate(sqlite_lab, candidate, "desk-test", actor=desk.actor)


def test_erased_cases_judge_no_more(sqlite_lab: Lab, tmp_path: Path) -> None:
    desk = bench(sqlite_lab, tmp_path, 6)
    candidate = desk.candidate("one")
    for key in ("t0", "t1"):
        blank_item(sqlite_lab, item_of(sqlite_lab, key))
    evaluation_id = evaluate(sqlite_lab, candidate, "desk-test", actor=desk.actor)
    metrics = evaluation_record(sqlite_lab, evaluation_id).metrics
    assert metrics is not None
    assert (metrics["cases"], metrics["erased"]) == (4, 2)
    assert len(results_of(sqlite_lab, evaluation_id)) == 4
    for key in ("t2", "t3", "t4", "t5"):
        blank_item(sqlite_lab, item_of(sqlite_lab, key))
    with pytest.raises(Refused, match=r"every case of suite desk-test@1 was erased"):
        evaluate(sqlite_lab, desk.candidate("two"), "desk-test", actor=desk.actor)


def test_what_is_refused(sqlite_lab: Lab, tmp_path: Path) -> None:
    desk = bench(sqlite_lab, tmp_path, 6)
    candidate = desk.candidate("one")
    evaluation_id = evaluate(sqlite_lab, candidate, "desk-test", actor=desk.actor)
    with pytest.raises(NotFound, match="no suite 'other'"):
        evaluate(sqlite_lab, candidate, "other", actor=desk.actor)
    with pytest.raises(NotFound, match="no candidate"):
        evaluate(sqlite_lab, "sha256:0", "desk-test", actor=desk.actor)
    with pytest.raises(NotFound, match="no evaluation 'evl_x'"):
        evaluation_record(sqlite_lab, "evl_x")
    with pytest.raises(SettingsError, match=r"no 'ticket' to count together by.*language"):
        results_of(sqlite_lab, evaluation_id, "ticket")
    by_language = results_of(sqlite_lab, evaluation_id, "language")
    assert {one.cluster for one in by_language} == {"de", "en"}
    write_task(sqlite_lab, "other", Choice(("x", "y")))
    moved = sqlite_lab.layout.tasks / "support.toml"
    moved.write_text(moved.read_text().replace("loan", "credit"))
    with pytest.raises(Conflict, match="frozen for another contract"):
        evaluate(sqlite_lab, desk.candidate("new", ("card",)), "desk-test", actor=desk.actor)
    with sqlite_lab.reading() as connection:
        count = connection.execute(select(func.count()).select_from(evaluation_results))
        assert count.scalar_one() == 6
        scores = connection.execute(select(evaluation_results.c.scores)).scalars().all()
    assert all(set(decode(one)) == {"correct", "brier", "log_loss"} for one in scores)
