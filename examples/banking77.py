"""The loop on real data: banking77, 77 intents of bank customers (PolyAI, CC-BY-4.0).

    python examples/banking77.py FOLDER [--reviews 1000] [--dir DIR]

FOLDER holds ``train.csv`` and ``test.csv`` with the columns text and category. Two reports:

1. as in papers: `--reviews` train rows get a review, the 3,080 given test rows judge;
2. as in a real team: there are `--reviews` reviews and no more; some of them must judge.

Nothing is tuned on the test rows. Whatever the gate says is printed, "too close to call" included.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from freehold.demo import loop as steps
from freehold.demo.loop import LoopPlan
from freehold.demo.material import Labelled, Material, choose
from freehold.registry.gating import report_page

BASELINES = ("majority", "tfidf", "embedding")
JUDGED_SHARE = 0.3  # of the reviews in report 2


class Printer:
    """Prints what happens, one line each."""

    def chapter(self, title: str) -> None:
        print(f"\n== {title}", flush=True)

    def say(self, text: str) -> None:
        print(f"   {text}", flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        print("   " + " | ".join(f"{name:<28}" for name in columns))
        for row in rows:
            print("   " + " | ".join(f"{cell!s:<28}" for cell in row), flush=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[Any]:
        yield lambda done, total: None


def read(path: Path, split: str) -> list[Labelled]:
    """Return the rows of one file; each question is an entity of its own."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Labelled(f"{split}-{number}", row["text"], row["category"], f"{split}-{number}", split)
            for number, row in enumerate(csv.DictReader(file))
        ]


def report(plan: LoopPlan, title: str) -> dict[str, Any]:
    """Run the loop in a new lab and return its figures."""
    printer = Printer()
    printer.chapter(title)
    loop = steps.begin(plan, printer)
    with loop.lab:
        steps.take_base_in(loop)
        steps.ask_the_base(loop)
        rows = steps.reviewed_rows(plan)
        steps.take_reviews(loop, rows, "train reviews")
        steps.take_reviews(loop, plan.material.of("test"), "test reviews")
        suite, dataset = steps.freeze(loop)
        steps.fix_gate(loop, suite)
        run = steps.train(loop, dataset, name="tuned", method=plan.method)
        candidates = {"base, untrained": steps.base_candidate(loop)}
        candidates |= {name: run.candidates[name] for name in BASELINES}
        candidates["tuned"] = run.candidates["model"]
        figures = steps.compare_all(loop, suite, candidates)
        best = max(BASELINES, key=lambda name: float(figures[name]["value"]))
        loop.note(figures=figures, champion=candidates[best], best_baseline=best)
        for name, champion in (("best baseline", best), ("base", "base, untrained")):
            verdict = steps.judge(loop, suite, candidates["tuned"], candidates[champion])
            printer.say(f"tuned against the {name} ({champion}): {verdict.verdict}")
            primary = report_page(loop.lab, verdict.verdict_id).partition("PRIMARY")[2]
            for line in primary.splitlines()[1:8]:
                printer.say(f"  {line.strip()}")
            loop.note(**{f"against {name}": verdict.verdict})
        refused = steps.with_shuffled_labels(loop, suite, rows)
        printer.say(f"trained on shuffled labels, against {best}: {refused.verdict}")
        loop.note(shuffled=refused.verdict)
    return loop.record


def main() -> None:
    """Print both reports, and one JSON document with every figure at the end."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reviews", type=int, default=1000)
    parser.add_argument("--dir", type=Path, default=Path("banking77-labs"))
    parser.add_argument("--method", default="lora", choices=("lora", "full", "head"))
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    shutil.rmtree(given.dir, ignore_errors=True)
    given.dir.mkdir(parents=True)
    train = read(given.folder / "train.csv", "train")
    test = read(given.folder / "test.csv", "test")
    labels = tuple(sorted({row.label for row in train}))

    def material(rows: Sequence[Labelled], rule: str) -> Material:
        return Material("banking77", tuple(rows), labels, 0, rule, synthetic=False)

    plan = LoopPlan(
        material([*train, *test], "given"),
        given.dir / "given-test",
        reviewed=given.reviews,
        method=given.method,
        training={"epochs": given.epochs},
        margin="0.02",
    )
    first = report(plan, f"1  {given.reviews} reviews, judged by the {len(test)} given test rows")
    drawn = choose(train, given.reviews, plan.seed)
    judging = {row.id for row in choose(drawn, round(given.reviews * JUDGED_SHARE), plan.seed + 1)}
    own = [replace(row, split="test" if row.id in judging else "train") for row in drawn]
    second = report(
        replace(
            plan, material=material(own, "lot"), directory=given.dir / "own-test", margin="0.03"
        ),
        f"2  {given.reviews} reviews and no more: {len(judging)} of them judge",
    )
    print(json.dumps({"given test": first, "own test": second}, indent=2, default=str))


if __name__ == "__main__":
    main()
