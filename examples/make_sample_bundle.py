"""Make the small bundle that stands in `sample-bundle/`: python examples/make_sample_bundle.py

A lab is founded in a temporary folder and does the whole loop on a slice of the synthetic support
requests that Freehold ships: labels from an answer key, a frozen suite and dataset, a baseline
that learns, evaluations, decisions. The bundle of it is written to `sample-bundle/` beside this
file, which must not be there. The lab and its private keys are thrown away afterwards.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from freehold.bundle.creating import BundleRecord, create_bundle
from freehold.datasets.building import build_dataset
from freehold.datasets.reading import dataset_rows, get_dataset
from freehold.datasets.suites import freeze_suite
from freehold.evaluation.run import evaluate
from freehold.evidence.founding import found_lab
from freehold.evidence.people import add_person
from freehold.evidence.sequencer import publish
from freehold.lab import Lab
from freehold.models.intake import seal_model
from freehold.records.spaces import Choice
from freehold.review.importing import import_reviews
from freehold.review.records import ImportOptions
from freehold.tasks.candidates import register_candidate
from freehold.tasks.contract import load_task, write_task
from freehold.training.baselines import BaselineJob, write_majority, write_tfidf
from freehold.training.rows import TrainingRow
from freehold.workflows.rows import IngestOptions
from freehold.workflows.run import RunOptions, run_task

HERE = Path(__file__).resolve().parent
REQUESTS = HERE.parent / "src/freehold/experiments/data/support_requests.csv"
TASK = "support"
ROWS = 90


@dataclass(frozen=True)
class Sample:
    """What the sample lab holds, by name: candidates and their evaluations."""

    actor: str
    candidates: dict[str, str]
    evaluations: dict[str, str]


def fill_sample_lab(lab: Lab, folder: Path, rows: int = ROWS) -> Sample:
    """Do the loop in a lab; `folder` takes the files that it reads and writes on the way."""
    file = _slice(folder / REQUESTS.name, rows)
    with file.open(encoding="utf-8", newline="") as opened:
        labels = tuple(sorted({row["label"] for row in csv.DictReader(opened)}))
    write_task(lab, TASK, Choice(labels))
    with lab.writing() as connection:
        actor = add_person(lab, connection, "Sam Sample", roles=("engineer",)).principal_id
    key = ImportOptions(kind="answer_key", source=file.name, reviewer="answer key")
    import_reviews(lab, TASK, file, actor=actor, options=key)
    suite = freeze_suite(lab, TASK, name="support-test", actor=actor)
    build_dataset(lab, TASK, name="support-train", actor=actor)
    candidates = _train(lab, folder, actor)
    evaluations = {
        name: evaluate(lab, candidate, suite.suite_id, actor=actor)
        for name, candidate in candidates.items()
    }
    same_items = IngestOptions(source=file.name)
    trial = RunOptions(candidate=candidates["tfidf"], rows=same_items)
    run_task(lab, TASK, file, actor=actor, options=trial)
    publish(lab)
    return Sample(actor, candidates, evaluations)


def make_sample_bundle(target: Path, rows: int = ROWS) -> BundleRecord:
    """Make the lab, its bundle in `target`, and throw the lab away."""
    with (
        tempfile.TemporaryDirectory() as folder,
        found_lab(Path(folder) / "lab", name="sample") as lab,
    ):
        sample = fill_sample_lab(lab, Path(folder), rows)
        return create_bundle(lab, target, actor=sample.actor)


def _slice(path: Path, rows: int) -> Path:
    """Write the first rows of each split of the shipped file, without the columns of its past."""
    with REQUESTS.open(encoding="utf-8", newline="") as opened:
        every = list(csv.DictReader(opened))
    train, test = ([row for row in every if row["split"] == split] for split in ("train", "test"))
    taken = train[: rows * 2 // 3] + test[: rows // 3]
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, ["id", "text", "label", "entity", "split"])
        writer.writeheader()
        for row in taken:
            writer.writerow({name: row[name] for name in writer.fieldnames})
    return path


def _train(lab: Lab, folder: Path, actor: str) -> dict[str, str]:
    """Fit two baselines on the dataset, seal them, and return their candidates."""
    task, dataset = load_task(lab, TASK), get_dataset(lab, "support-train")
    rows = tuple(
        TrainingRow(row.row_id, row.text, str(row.value), row.weight)
        for row in dataset_rows(lab, dataset.dataset_id, "train")
    )
    job = BaselineJob(rows, task.question())
    write_majority(job, folder / "majority")
    write_tfidf(job, folder / "tfidf")
    found = {}
    for name in ("majority", "tfidf"):
        with lab.writing() as connection:
            model = seal_model(
                lab,
                connection,
                folder / name,
                kind="adapter",
                form="estimator",
                name=f"support-{name}",
                edges=[("trained_on", dataset.dataset_id)],
                run_id=None,
                actor=actor,
            )
        found[name] = register_candidate(lab, task, model, actor=actor, name=f"support/{name}")
    return found


def main() -> int:
    target = HERE / "sample-bundle"
    made = make_sample_bundle(target)
    print(f"{made.path}: {made.files} files, {made.size:,} bytes, {made.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
