"""Is there anything to gain? Answered from a spreadsheet of past work, before a lab exists.

Every arm answers the same cases, none of which taught it. The best learning arm is compared with
the incumbent case by case; since several arms are tried and the best one is looked at, each
interval is widened by their number (Bonferroni), so that looking more often promises no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from freehold.errors import InputError
from freehold.evaluation.metrics import choice_figures
from freehold.evaluation.paired import compare
from freehold.evaluation.power import MOST_CASES, more_cases
from freehold.experiments.advice import advise
from freehold.experiments.arms import (
    Arm,
    Encoded,
    Frozen,
    Majority,
    Material,
    Skipped,
    ZeroShot,
    encode,
    make_arms,
    material,
)
from freehold.experiments.assessment import MARGIN, Against, ArmResult, Assessment, outcome_of
from freehold.experiments.curve import Curve, learning_curve, sizes
from freehold.experiments.past_work import Limits, PastWork, read_past_work
from freehold.experiments.trials import LEAST_SIDE, Trials, arrange
from freehold.tabular import Table

if TYPE_CHECKING:
    from freehold.experiments.arms import Answers
    from freehold.experiments.trials import Places

OnProgress = Callable[[int, int], None]
INCUMBENT = "incumbent"
NO_MODEL = "none"
POWER = 0.8
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Options:
    """How to assess. `columns` names columns by role; `ignore` leaves optional roles aside.

    `rule` is folds, given or time (see `trials`); `model` a reference to an encoder, or ``none``.
    `margin` is how much worse still counts as not worse.
    """

    columns: Mapping[str, str | None] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    rule: str | None = None
    model: str | None = None
    margin: Decimal = MARGIN
    limits: Limits = field(default_factory=Limits)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a margin that means nothing."""
        if not 0 < self.margin < 1:
            raise InputError(f"the margin is a share between 0 and 1, got {self.margin}")


def assess(
    table: Table, options: Options | None = None, on_progress: OnProgress | None = None
) -> Assessment:
    """Assess a table of past work. The same table, options and encoder give the same result.

    `on_progress` gets (done, total) in rough units of work. Raises what reading, arranging and the
    encoder raise: InputError for a table that nothing can be said about, NotFound or MissingExtra
    for an encoder that was named and is not there.
    """
    chosen = options or Options()
    work = read_past_work(
        table, chosen.columns, ignore=chosen.ignore, limits=chosen.limits, seed=chosen.seed
    )
    trials = arrange(work.cases, chosen.rule, seed=chosen.seed)
    given = material(work)
    progress = _Progress(on_progress)
    encoded = _encoded(given, chosen, progress)
    arms = make_arms(given, encoded)
    progress.expect(sum(_cost(arm, trials) for arm in arms))
    bench = _Bench(work, given, trials, chosen.seed)
    answers = {arm.name: bench.answered(arm, progress) for arm in arms}
    return _judged(bench, arms, answers, encoded, chosen, progress)


class _Progress:
    """Work done and expected, in the time it takes to read one case with an encoder."""

    def __init__(self, report: OnProgress | None) -> None:
        self._report = report
        self._done = self._expected = 0.0

    def expect(self, more: float) -> None:
        """Add to what is expected."""
        self._expected += more

    def add(self, work: float) -> None:
        """Add to what is done, and report it."""
        self._done = min(self._done + work, self._expected)
        if self._report is not None:
            self._report(int(self._done), max(1, int(self._expected)))


@dataclass(frozen=True)
class _Bench:
    """The cases, and which of them teach and judge."""

    work: PastWork
    given: Material
    trials: Trials
    seed: int

    @property
    def entities(self) -> list[str]:
        """The entity of each case."""
        return [case.entity for case in self.work.cases]

    def answered(self, arm: Arm, progress: _Progress) -> Answers:
        """Return the arm's label number for each case, -1 for those that no round judges."""
        import numpy as np

        answers = np.full(len(self.given.texts), -1, dtype=np.int64)
        for one in self.trials.rounds:
            answers[one.judge] = arm.answer(one.teach, one.judge)
            progress.add(len(one.teach) * arm.cost)
        return answers

    def result(self, name: str, answers: Answers, places: Places) -> ArmResult:
        """Return the figures of answers at some places; an answer of no label is wrong."""
        labels = (*self.work.labels, "(another answer)")
        entities = self.entities
        figures = choice_figures(
            [labels[number] for number in self.given.truth[places]],
            [labels[number] for number in answers[places]],
            [entities[place] for place in places],
            self.seed,
        )
        return ArmResult(name, figures.accuracy, figures.macro_f1)

    def against(
        self, names: tuple[str, str], answers: Mapping[str, Answers], looks: int, margin: Decimal
    ) -> Against:
        """Compare an arm with a rival on the cases that both answered."""
        arm, rival = names
        places = self.places_of(answers[rival]) if rival == INCUMBENT else self.trials.judging
        truth, entities = self.given.truth[places], self.entities
        ours = (answers[arm][places] == truth).astype(int)
        theirs = (answers[rival][places] == truth).astype(int)
        alpha = (1.0 - CONFIDENCE) / looks
        seen = compare(
            (ours - theirs).tolist(), [entities[place] for place in places], 1.0 - alpha, self.seed
        )
        outcome = outcome_of(seen, margin)
        lines = (-float(margin), 0.0)
        settled = outcome != "too close to call"
        return Against(
            arm=arm,
            rival=rival,
            outcome=outcome,
            difference=seen,
            wins=int((ours > theirs).sum()),
            losses=int((ours < theirs).sum()),
            looks=looks,
            more=0 if settled else _worth_saying(more_cases(seen, lines, POWER, alpha / 2.0)),
        )

    def incumbent(self) -> Answers | None:
        """Return the incumbent's answers as label numbers; None where the file has none.

        An answer that is no label gets the number after the last, a missing one -1.
        """
        import numpy as np

        if INCUMBENT not in self.work.columns:
            return None
        number = {label: place for place, label in enumerate(self.work.labels)}
        said = [case.incumbent for case in self.work.cases]
        return np.array(
            [-1 if one is None else number.get(one, len(number)) for one in said], dtype=np.int64
        )

    def places_of(self, incumbent: Answers) -> Places:
        """Return the judged cases that the incumbent answered; InputError for too few."""
        judging = self.trials.judging
        places: Places = judging[incumbent[judging] >= 0]
        if len(places) < LEAST_SIDE:
            raise InputError(
                f"{self.work.file}: the incumbent answered {len(places)} of {len(judging)} judged "
                f"rows; {LEAST_SIDE} are needed",
                hint="Name its column with --incumbent-column, or: --ignore incumbent.",
                field=self.work.columns[INCUMBENT],
            )
        return places


def _judged(
    bench: _Bench,
    arms: Sequence[Arm],
    answers: dict[str, Answers],
    encoded: Encoded | Skipped,
    options: Options,
    progress: _Progress,
) -> Assessment:
    """Return figures, comparisons, curve and advice."""
    results = [bench.result(arm.name, answers[arm.name], bench.trials.judging) for arm in arms]
    right = {result.name: result.accuracy.value or 0.0 for result in results}
    ranked = sorted((name for name in right if name != Majority.name), key=lambda one: -right[one])
    learner = max((arm for arm in arms if arm.learns), key=lambda arm: right[arm.name])
    said = bench.incumbent()
    incumbent = None
    if said is not None:
        answers[INCUMBENT] = said
        incumbent = bench.result(INCUMBENT, said, bench.places_of(said))
    rival = Majority.name if said is None else INCUMBENT
    against = tuple(
        bench.against((name, rival), answers, len(ranked), options.margin) for name in ranked
    )
    curve = _curve(bench, learner, answers[learner.name], progress)
    advice, because = advise(against, curve, incumbent, options.margin)
    return Assessment(
        work=bench.work,
        split=bench.trials.said,
        left_out=bench.trials.left_out,
        encoder=encoded.source if isinstance(encoded, Encoded) else None,
        skipped=(encoded,) if isinstance(encoded, Skipped) else (),
        arms=tuple(results),
        incumbent=incumbent,
        best=ranked[0],
        against=against,
        curve=curve,
        margin=options.margin,
        seed=options.seed,
        advice=advice,
        because=because,
        test_from=bench.trials.test_from,
    )


def _curve(bench: _Bench, arm: Arm, answers: Answers, progress: _Progress) -> Curve:
    trials = bench.trials
    taught = sum(sizes(trials.taught)[:-1]) * len(trials.rounds) * trials.repeats
    progress.expect(taught * arm.cost)
    full = (answers == bench.given.truth).astype("float64")
    return learning_curve(
        arm,
        bench.given,
        trials,
        bench.entities,
        full,
        lambda size: progress.add(size * arm.cost),
        seed=bench.seed,
    )


def _worth_saying(more: int) -> int | None:
    """Return a number of further cases, or None for one that nobody will ever review."""
    return more if more < MOST_CASES // 10 else None


def _cost(arm: Arm, trials: Trials) -> float:
    return arm.cost * sum(len(one.teach) for one in trials.rounds)


def _encoded(given: Material, options: Options, progress: _Progress) -> Encoded | Skipped:
    if options.model == NO_MODEL:
        return Skipped(
            (ZeroShot.name, Frozen.name), "left out by --model none", "Run it without --model."
        )
    progress.expect(len(given.texts))
    return encode(given, options.model, progress.add)
