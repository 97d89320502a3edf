"""Nothing that judges has taught: by fold, by the file's split and by time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.samples import Wanted, past_work, write
from freehold.errors import InputError
from freehold.experiments.arms import Tfidf, material
from freehold.experiments.curve import sizes
from freehold.experiments.past_work import PastWork, read_past_work
from freehold.experiments.trials import FOLDS, SEEDS, arrange, draw
from freehold.tabular import open_table


def read(path: Path) -> PastWork:
    return read_past_work(open_table(path))


def with_split(path: Path) -> Path:
    rows = [
        [f"text number {n}", n % 2, ("train", "Test", "dev", "")[n % 4], f"c{n // 2}"]
        for n in range(200)
    ]
    return write(path, ["text", "label", "split", "entity"], rows)


@pytest.mark.parametrize(
    ("rule", "entities"), [("folds", 0), ("folds", 40), ("time", 0), ("time", 200)]
)
def test_no_entity_stands_on_both_sides(tmp_path: Path, rule: str, entities: int) -> None:
    """Also where a customer has rows early and late."""
    work = read(past_work(tmp_path / "work.csv", Wanted(rows=300, entities=entities)))
    trials = arrange(work.cases, rule)
    for one in trials.rounds:
        sides = [{work.cases[place].entity for place in side} for side in (one.teach, one.judge)]
        assert not sides[0] & sides[1]
    judged = np.concatenate([one.judge for one in trials.rounds])
    assert len(set(judged.tolist())) == len(judged)


def test_folds_judge_every_case_once(tmp_path: Path) -> None:
    """And another seed makes other folds."""
    work = read(past_work(tmp_path / "work.csv", Wanted(rows=300, entities=80)))
    trials = arrange(work.cases)
    assert (trials.rule, len(trials.rounds), trials.repeats) == ("folds", FOLDS, 1)
    assert trials.judging.tolist() == list(range(len(work.cases)))
    other = arrange(work.cases, seed=1)
    assert trials.rounds[0].judge.tolist() != other.rounds[0].judge.tolist()


def test_the_files_own_split_is_kept(tmp_path: Path) -> None:
    """Test judges, train and dev teach but for customers who are judged; the rest is counted."""
    work = read(with_split(tmp_path / "work.csv"))
    trials = arrange(work.cases)
    (one,) = trials.rounds
    assert (trials.rule, trials.repeats) == ("given", SEEDS)
    assert {work.cases[place].split for place in one.judge} == {"test"}
    assert {work.cases[place].split for place in one.teach} == {"dev"}
    assert trials.left_out == {
        "no split given": 50,
        "entity is judged, so its other rows may not teach": 50,
    }


def test_time_judges_the_latest(tmp_path: Path) -> None:
    """No case that teaches is as late as the first that judges."""
    work = read(past_work(tmp_path / "work.csv", Wanted(rows=300)))
    (one,) = arrange(work.cases, "time").rounds
    moments = [case.moment for case in work.cases]
    latest = max(str(moments[place]) for place in one.teach)
    assert latest < min(str(moments[place]) for place in one.judge)
    assert 0.25 < len(one.judge) / 300 < 0.35


def test_a_side_that_is_left_empty_is_refused(tmp_path: Path) -> None:
    """Each of 20 customers has late rows, so by time hardly a row is left to teach."""
    work = read(past_work(tmp_path / "work.csv", Wanted(rows=300, entities=20)))
    with pytest.raises(InputError, match="7 rows would teach and 90 judge"):
        arrange(work.cases, "time")


def test_smaller_draws_lie_in_larger_ones() -> None:
    """A curve's points differ by what was added, not by what was exchanged."""
    teach = np.arange(100, 200)
    small, large = draw(teach, 20, 3), draw(teach, 80, 3)
    assert set(small) <= set(large) <= set(teach)
    assert set(small) != set(draw(teach, 20, 4))


@pytest.mark.parametrize(
    ("taught", "expected"),
    [(20, [20]), (45, [23, 45]), (900, [29, 57, 113, 225, 450, 900]), (25, [25])],
)
def test_sizes_double_up_to_all(taught: int, expected: list[int]) -> None:
    """At most six, none too small to learn from."""
    assert sizes(taught) == expected


def test_the_arm_is_the_baseline_that_would_be_trained(tmp_path: Path) -> None:
    """TF-IDF here gives the answers of the pack that training writes from the same rows."""
    from freehold.records.spaces import Choice
    from freehold.runtimes.base import question_from
    from freehold.runtimes.estimator import EstimatorScorer
    from freehold.training.baselines import BaselineJob, write_tfidf
    from freehold.training.rows import TrainingRow

    work = read(past_work(tmp_path / "work.csv", Wanted(rows=240)))
    given, teach, judge = material(work), np.arange(160), np.arange(160, 240)
    question = question_from(Choice(work.labels))
    rows = [TrainingRow(str(n), work.cases[n].text, work.cases[n].label) for n in teach]
    write_tfidf(BaselineJob(tuple(rows), question), tmp_path / "pack")
    served = EstimatorScorer(tmp_path / "pack", question).score([given.texts[n] for n in judge])
    answers = Tfidf(given).answer(teach, judge)
    assert answers.tolist() == [int(np.argmax(one.probabilities)) for one in served]
