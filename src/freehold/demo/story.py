"""The story of one model, told with real work behind every line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select

from freehold.bundle.creating import create_bundle
from freehold.demo import loop as steps
from freehold.demo.loop import Loop, LoopPlan
from freehold.demo.material import Labelled, write_rows
from freehold.demo.narrator import Narrator
from freehold.errors import IntegrityError
from freehold.evidence.keys import log_verifier
from freehold.evidence.proofs import Receipt, verify_receipt
from freehold.lab.schema import decisions
from freehold.lineage.proving import prove
from freehold.lineage.replaying import replay
from freehold.registry.gating import VerdictRecord, report_page
from freehold.workflows.rows import IngestOptions
from freehold.workflows.run import RunOptions, run_task

_BASELINES = ("majority", "tfidf", "embedding")
_NEW_ITEMS = 40


def tell(plan: LoopPlan, narrator: Narrator) -> dict[str, Any]:
    """Run the whole loop in a new lab and return the record of what every step found."""
    material = plan.material
    narrator.chapter("1  The data, and a lab")
    narrator.say(
        f"{material.name}: {len(material.rows)} rows, {len(material.labels)} labels, split: "
        f"{material.split_rule}" + (" — synthetic, made for this demo" * material.synthetic)
    )
    if material.bad_rows:
        narrator.say(f"{material.bad_rows} rows could not be used")
    loop = steps.begin(plan, narrator)
    with loop.lab:
        _tell_all(loop)
    loop.note(seconds=f"{time.monotonic() - loop.started:.1f}", lab=str(plan.directory))
    return loop.record


def _tell_all(loop: Loop) -> None:
    say, chapter = loop.narrator.say, loop.narrator.chapter
    chapter("2  A base model, read as the contract it is")
    steps.take_base_in(loop)
    chapter("3  First decisions, before anybody has reviewed anything")
    steps.ask_the_base(loop)
    chapter("4  Reviews (from the answer key; people review in the terminal or a spreadsheet)")
    rows = steps.reviewed_rows(loop.plan)
    steps.take_reviews(loop, rows, "train reviews")
    steps.take_reviews(loop, loop.plan.material.of("test"), "test reviews, made blind")
    chapter("5  What judges and what teaches, frozen; the gate's rules, fixed beforehand")
    suite, dataset = steps.freeze(loop)
    steps.fix_gate(loop, suite)
    say(f"gate: accuracy, margin {loop.plan.margin}; its digest stands in the ledger now")
    chapter(f"6  Training ({loop.plan.method}), with the cheap baselines beside it")
    run = steps.train(loop, dataset, name="tuned", method=loop.plan.method)
    chapter("7  All of them on the same cases")
    candidates = {"base, untrained": steps.base_candidate(loop)}
    candidates |= {name: run.candidates[name] for name in _BASELINES if name in run.candidates}
    candidates["tuned"] = run.candidates["model"]
    figures = steps.compare_all(loop, suite, candidates)
    best = max(
        (name for name in _BASELINES if name in figures),
        key=lambda name: float(figures[name]["value"]),
    )
    loop.note(figures=figures, best_baseline=best, champion=candidates[best])
    chapter(f"8  The gate: the tuned model against the best baseline ({best})")
    verdict = steps.judge(loop, suite, candidates["tuned"], candidates[best])
    _show(loop, verdict, "gate")
    if not verdict.passed:
        say(f"The tuned model does not pass; the baseline {best} must beat the base instead.")
        verdict = steps.judge(loop, suite, candidates[best], candidates["base, untrained"])
        _show(loop, verdict, "gate_of_baseline")
    chapter("9  A training on labels dealt out by lot")
    refused = steps.with_shuffled_labels(loop, suite, rows)
    say(f"the gate says: {refused.verdict}; it may not be promoted")
    loop.note(shuffled=refused.verdict, shuffled_passed=refused.passed)
    if verdict.passed:
        _release_and_prove(loop, verdict)
    else:
        say("Nothing passed the gate, so nothing is promoted: that is an answer too.")
    _leave(loop)


def _show(loop: Loop, verdict: VerdictRecord, name: str) -> None:
    page = report_page(loop.lab, verdict.verdict_id)
    for line in _without_case_ids(page):
        loop.narrator.say(line)
    loop.narrator.say(f"the whole page: freehold gate report {verdict.verdict_id}")
    loop.note(**{name: verdict.verdict, f"{name}_digest": verdict.verdict_digest})


def _without_case_ids(page: str) -> list[str]:
    """Return the page's verdict, primary figures and warnings; ids and digests stay on the page."""
    kept: list[str] = []
    listing = False
    for line in page.partition("\nFACTS")[0].splitlines():
        if line.startswith(("STRENGTH", "FIGURES")):
            listing = True
        elif line.startswith("WARNINGS"):
            listing = False
        named = line.split()[:1]
        if not listing and named not in (["wins"], ["losses"]) and "case_" not in line:
            kept.append(line)
    return [line for line in kept if line.strip() and "the verdict's record" not in line]


def _release_and_prove(loop: Loop, verdict: VerdictRecord) -> None:
    say, chapter = loop.narrator.say, loop.narrator.chapter
    chapter("10  A signature, and a release")
    release = steps.release(loop, verdict)
    say(f"release {release.number} serves since {release.served_from}; signed by {steps.APPROVER}")
    decision_id = _decide_new_items(loop)
    chapter("11  One decision, proved and replayed")
    proved = prove(loop.lab, decision_id)
    path = loop.lab.layout.documents / "receipt.json"
    path.write_bytes(proved.document)
    checked = verify_receipt(Receipt.parse(path.read_bytes()), [log_verifier(loop.lab)])
    say(f"decision {decision_id} is entry {checked.index} of {checked.checkpoint.size}: proved")
    again = replay(loop.lab, decision_id)
    same = "the same answer" if again.equal_value else f"another answer: {again.value}"
    bits = "to the last recorded digit" if again.bit_equal else "within the tolerance"
    say(f"replayed: {same}, probabilities equal {bits} (difference {again.max_difference_ppb} ppb)")
    loop.note(decision=decision_id, entry=checked.index, replay_equal=again.equal_value)


def _decide_new_items(loop: Loop) -> str:
    """Let the release decide items nobody has reviewed; return one decision's id."""
    reviewed = {row.id for row in steps.reviewed_rows(loop.plan)}
    fresh = [row for row in loop.plan.material.of("train") if row.id not in reviewed]
    chosen: list[Labelled] = (fresh or list(loop.plan.material.of("test")))[:_NEW_ITEMS]
    file = write_rows(loop.lab.layout.scratch / "loop" / "new.csv", chosen, with_label=False)
    options = RunOptions(rows=IngestOptions(source=steps.SOURCE))
    report = run_task(loop.lab, loop.plan.task, file, actor=loop.engineer, options=options)
    loop.narrator.say(f"{report.answered} new items decided by the release")
    with loop.lab.reading() as connection:
        found = connection.execute(
            select(decisions.c.decision_id)
            .where(decisions.c.workflow_run == report.workflow_run)
            .order_by(decisions.c.number)
            .limit(1)
        ).scalar_one()
    return str(found)


def _leave(loop: Loop) -> None:
    """Make the bundle, and check it in a process that knows nothing of Freehold."""
    loop.narrator.chapter("12  Leaving with everything")
    target = loop.plan.directory.with_name(f"{loop.plan.directory.name}-bundle")
    started = time.monotonic()
    with loop.narrator.progress("writing the bundle") as on_progress:
        made = create_bundle(loop.lab, target, actor=loop.engineer, on_progress=on_progress)
    seconds = time.monotonic() - started
    loop.narrator.say(f"{target}: {made.files} files, {made.size / 1e6:.1f} MB, {seconds:.1f} s")
    report = _verify_in_clean_process(target).splitlines()
    passed = [line for line in report if line.startswith("ok ")]
    loop.narrator.say(f"python -I -S verify.py: {len(passed)} checks ok, among them")
    for line in passed[:4]:
        loop.narrator.say(f"  {line.removeprefix('ok').strip()}")
    for line in report:
        if not line.startswith("ok "):
            loop.narrator.say(line)
    loop.note(bundle=str(target), bundle_files=made.files, bundle_bytes=made.size)


def _verify_in_clean_process(bundle: Path) -> str:
    # -I and -S: no environment, no user site, no site-packages; the standard library alone.
    command = [sys.executable, "-I", "-S", str(bundle / "verify.py"), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise IntegrityError(f"the bundle does not verify: {done.stdout}{done.stderr}")
    return done.stdout
