"""A lab with a suite, a plan, an engineer who trains and an approver who signs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from freehold.access.people import Person, find_person
from freehold.canonical.json import encode_text
from freehold.datasets.building import build_dataset
from freehold.evaluation.run import evaluate
from freehold.evidence.entries import Entry
from freehold.evidence.people import add_person, make_person_key
from freehold.lab import Lab
from freehold.lab.schema import runs
from freehold.models.intake import seal_model
from freehold.records.ids import new_id
from freehold.registry.approvals import approve
from freehold.registry.gating import VerdictRecord, gate_candidate
from freehold.registry.plans import PlanRecord, register_plan
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
from freehold.runtimes.formats import Estimator, EstimatorPack, write_estimator
from gated_labs import Bench, bench
from labelled_files import OPTIONS, some_rows, write_rows

PLAN = """
gate = "{name}"
suite = "desk-test"

[primary]
metric = "{metric}"
margin = {margin}
"""


@dataclass(frozen=True)
class Desk:
    """What a test of the registry stands on."""

    bench: Bench
    engineer: Person
    approver: Person
    key: Path

    @property
    def lab(self) -> Lab:
        return self.bench.lab

    @property
    def actor(self) -> str:
        return self.engineer.principal_id

    def plan(self, name: str = "desk", metric: str = "correct", margin: str = "0.05") -> PlanRecord:
        path = self.lab.layout.gates / f"{name}.toml"
        path.write_text(PLAN.format(name=name, metric=metric, margin=margin))
        return register_plan(self.lab, path, actor=self.actor)

    def baseline(self) -> str:
        """A majority pack as a candidate."""
        import numpy as np

        folder = self.lab.root.parent / "majority"
        pack = EstimatorPack("majority", "choice", OPTIONS)
        write_estimator(folder, Estimator(pack, {"prior": np.full(3, 1 / 3)}))
        with self.lab.writing() as connection:
            seal_model(
                self.lab, connection, folder,
                kind="adapter", form="estimator", name="majority", edges=[], run_id=None,
                actor=self.actor,
            )  # fmt: skip
        return self.bench.registered("majority")

    def run_by(self, person: Person, dataset_id: str = "dst_none") -> str:
        """A finished training run of a person; returns its id."""
        run_id = new_id("run")
        with self.lab.writing() as connection:
            entry = Entry(self.lab, connection, "run.finished", person.principal_id)
            row = {"run_id": run_id, "name": run_id, "task": "support", "method": "head"}
            row |= {"state": "done", "recipe": "{}", "lock": encode_text({}), "attempt": 1}
            row |= {"lock_digest": "sha256:0", "dataset_id": dataset_id}
            entry.insert(runs, row | {"created_at": entry.at, "created_by": person.principal_id})
            entry.close()
        return run_id

    def dataset(self) -> str:
        """A dataset of rows that are in no suite."""
        lab = self.lab
        path = write_rows(lab.root.parent / "train.csv", some_rows(6))
        options = ImportOptions(kind="answer_key", source="train", reviewer="ada", strict=True)
        import_reviews(lab, "support", path, actor=self.actor, options=options)
        return build_dataset(lab, "support", name="own", actor=self.actor).dataset_id

    def judged(
        self, candidate: str, champion: str | None = None, plan: str = "desk"
    ) -> VerdictRecord:
        return gate_candidate(
            self.lab,
            "support",
            candidate,
            suite="desk-test",
            plan=plan,
            champion=champion,
            actor=self.actor,
        )

    def approved(self, candidate: str, champion: str | None = None) -> VerdictRecord:
        """A candidate judged and approved."""
        verdict = self.judged(candidate, champion)
        approve(self.lab, verdict.verdict_id, key_path=self.key, reason="read the report")
        return verdict

    def evaluated(self, candidate: str) -> str:
        return evaluate(self.lab, candidate, "desk-test", actor=self.actor)


def make_desk(lab: Lab, tmp_path: Path, cases: int = 60) -> Desk:
    with lab.writing() as connection:
        engineer = add_person(lab, connection, "Sam", roles=("engineer", "approver"))
        add_person(lab, connection, "Dana", roles=("approver",))
    key = tmp_path / "dana.key"
    make_person_key(lab, "Dana", key)
    with lab.writing() as connection:
        approver = find_person(connection, "Dana")
    return Desk(bench(lab, tmp_path, cases), engineer, approver, key)
