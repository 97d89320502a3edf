"""Figures of one model, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from freehold.errors import InputError
from freehold.evaluation.intervals import wilson
from freehold.evaluation.metrics import choice_figures, labels_figures, number_figures

NAMES = ["refund", "delay", "fraud", "other"]


def sample(n: int = 400) -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(9)
    truth = generator.choice(NAMES, n, p=[0.5, 0.3, 0.15, 0.05])
    wrong = generator.random(n) < 0.3
    return list(truth), list(np.where(wrong, generator.choice(NAMES, n), truth))


def test_choice_equals_scikit_learn() -> None:
    truth, answers = sample()
    ours = choice_figures(truth, answers)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        truth, answers, labels=NAMES
    )
    assert ours.accuracy.value == pytest.approx(reference.accuracy_score(truth, answers))
    assert ours.macro_f1.value == pytest.approx(reference.f1_score(truth, answers, average="macro"))
    assert [ours.precision[name].value for name in NAMES] == pytest.approx(list(precision))
    assert [ours.recall[name].value for name in NAMES] == pytest.approx(list(recall))
    assert [ours.f1[name].value for name in NAMES] == pytest.approx(list(f1))
    table = reference.confusion_matrix(truth, answers, labels=NAMES)
    assert ours.confusion == {
        (a, b): table[i, j]
        for i, a in enumerate(sorted(NAMES, key=NAMES.index))
        for j, b in enumerate(NAMES)
        if table[i, j]
    }


def test_every_figure_lies_in_its_interval_and_says_its_n() -> None:
    truth, answers = sample()
    ours = choice_figures(truth, answers)
    hits = sum(a == b for a, b in zip(truth, answers, strict=True))
    bounds = wilson(hits, 400)
    assert (ours.accuracy.low, ours.accuracy.high) == (bounds.low, bounds.high)
    figures = [ours.accuracy, ours.macro_f1, *ours.precision.values(), *ours.f1.values()]
    for figure in figures:
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert 0.0 <= figure.low <= figure.value <= figure.high <= 1.0
        assert figure.n > 0
    assert choice_figures(truth, answers) == ours
    assert ours.recall["fraud"].n == truth.count("fraud")


def test_clusters_widen_the_interval() -> None:
    truth, answers = ["a"] * 40, ["a"] * 30 + ["b"] * 10
    alone = choice_figures(truth, answers).accuracy
    tied = choice_figures(truth, answers, [str(i // 5) for i in range(40)]).accuracy
    assert alone.value == tied.value
    assert tied.low < alone.low  # type: ignore[operator]
    assert tied.high > alone.high  # type: ignore[operator]


def test_a_label_never_answered_has_no_precision() -> None:
    ours = choice_figures(["a", "b"], ["a", "a"])
    assert (ours.precision["b"].value, ours.precision["b"].n) == (None, 0)
    assert ours.precision["b"].as_record()["value"] is None
    assert ours.recall["b"].as_record()["value"] == "0.000000"


def test_labels_equal_scikit_learn() -> None:
    generator = np.random.default_rng(4)
    true, said = generator.random((200, 3)) < 0.4, generator.random((200, 3)) < 0.4
    true[:, 0], said[:, 0] = True, True
    rows = [[NAMES[i] for i in np.flatnonzero(row)] for row in true]
    answers = [[NAMES[i] for i in np.flatnonzero(row)][::-1] for row in said]
    ours = labels_figures(rows, answers)
    assert ours.exact_match.value == pytest.approx((true == said).all(1).mean())
    assert ours.micro_f1.value == pytest.approx(reference.f1_score(true, said, average="micro"))
    assert ours.macro_f1.value == pytest.approx(reference.f1_score(true, said, average="macro"))


def test_labels_that_are_all_empty_agree() -> None:
    ours = labels_figures([[], []], [[], []])
    assert ours.exact_match.value == 1.0


def test_numbers_equal_scikit_learn() -> None:
    generator = np.random.default_rng(6)
    true = generator.normal(0, 3, 100).round(3)
    said = (true + generator.normal(0.2, 1, 100)).round(3)
    ours = number_figures([str(x) for x in true], [str(x) for x in said])
    assert ours.mae.value == pytest.approx(reference.mean_absolute_error(true, said))
    assert ours.rmse.value == pytest.approx(reference.root_mean_squared_error(true, said))
    assert ours.rmse.low < ours.rmse.value < ours.rmse.high  # type: ignore[operator]


@pytest.mark.parametrize(
    ("truth", "answers", "clusters", "message"),
    [
        ([], [], None, "0 true values and 0 answers"),
        (["a"], ["a", "b"], None, "1 true values and 2 answers"),
        (["a"], ["a"], ["x", "y"], "1 cases but 2 cluster names"),
    ],
)
def test_uneven_input_is_refused(
    truth: list[str], answers: list[str], clusters: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        choice_figures(truth, answers, clusters)
