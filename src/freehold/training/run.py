"""Doing what was planned: fit, resume, and the folder that comes out.

```
events.jsonl       one line per step and checkpoint
checkpoints/       see `checkpoints`
output/            the pack that serves: a classifier, an adapter or an estimator
baselines/NAME/    the cheap rungs, trained on the same rows
run.json           what happened: machine, times, peak memory, figures; written last
```

Output folders are written aside and renamed, so that what stands under its name is whole.
"""

from __future__ import annotations

import json
import platform
import resource
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.canonical.json import encode
from freehold.errors import Conflict
from freehold.models.manifest import build_manifest
from freehold.records.clock import now
from freehold.runtimes.formats import ClassifierPack, Linear, read_estimator, write_classifier
from freehold.training import baselines, causal, encoder
from freehold.training.adapters import copy_tokeniser, write_adapter
from freehold.training.calibration import Calibration, fit_temperature, logits_from
from freehold.training.checkpoints import Owner
from freehold.training.events import CANCEL_FILE, EVENTS_FILE, EventLog, OnEvent
from freehold.training.lock import Ready, machine, run_id
from freehold.training.plan import Plan, reopen, require_recipe
from freehold.training.recipe import BASELINE_METHODS, CAUSAL_METHODS, Recipe
from freehold.training.scoring import metrics, score
from freehold.training.targets import target_matrix

if TYPE_CHECKING:
    from freehold.training.targets import Matrix

RUN_FILE, OUTPUT, BASELINES = "run.json", "output", "baselines"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run made; `record` is the content of ``run.json``."""

    run_id: str
    output: Path
    baselines: Path
    record: dict[str, Any]


def fit(plan: Plan, run_dir: Path, on_event: OnEvent | None = None) -> Outcome:
    """Do a planned run from its start.

    Raises Conflict when the folder holds another plan or a run that has begun, and what the
    trainer raises.
    """
    if (run_dir / EVENTS_FILE).exists():
        raise Conflict(
            f"run {run_dir} has begun already",
            hint="Go on with it: `freehold train --resume`; or plan a new folder.",
        )
    ready, lock = reopen(run_dir)
    if run_id(lock) != plan.run_id:
        raise Conflict(
            f"{run_dir} holds run {run_id(lock)}, not the approved plan {plan.run_id}",
            hint="Plan again and look at what it says before you run it.",
        )
    return _work(ready, lock, run_dir, on_event)


def resume(
    run_dir: Path, on_event: OnEvent | None = None, *, recipe: Recipe | None = None
) -> Outcome:
    """Go on with a run from its newest complete checkpoint, or from the start if there is none.

    Raises Conflict when `recipe`, the data, the base or the machine are not those of the plan, or
    the run is finished; IntegrityError for a damaged checkpoint.
    """
    if recipe is not None:
        require_recipe(run_dir, recipe)
    if (run_dir / RUN_FILE).exists():
        raise Conflict(f"run {run_dir} is finished", hint="Its result is in output/.")
    ready, lock = reopen(run_dir)
    return _work(ready, lock, run_dir, on_event)


def read_outcome(run_dir: Path) -> Outcome:
    """Return a finished run's result; Conflict when it is not finished."""
    path = run_dir / RUN_FILE
    if not path.is_file():
        raise Conflict(f"run {run_dir} is not finished", hint="`freehold train --resume`")
    record = json.loads(path.read_bytes())
    return Outcome(record["run_id"], run_dir / OUTPUT, run_dir / BASELINES, record)


def _work(ready: Ready, lock: dict[str, Any], run_dir: Path, on_event: OnEvent | None) -> Outcome:
    begun, clock = now(), time.perf_counter()
    owner = Owner(run_id(lock), lock, lock["tokens"]["commitment"])
    with EventLog(run_dir, on_event) as log, encoder.reproducible(ready.threads):
        log.write("started", run_id=owner.run_id, method=ready.recipe.method, steps=ready.steps)
        figures = _make(ready, run_dir, owner, log)
        trained = time.perf_counter() - clock
        beside = _make_baselines(ready, run_dir, log)
        record = {
            "schema_version": 1,
            "run_id": owner.run_id,
            "begun": begun,
            "finished": now(),
            "machine": {**machine(ready.threads), "system": platform.system()},
            "seconds": {
                "training": f"{trained:.3f}",
                "all": f"{time.perf_counter() - clock:.3f}",
            },
            "peak_memory": _peak_memory(),
            "figures": figures,
            "baselines": beside,
            "output": _files(run_dir / OUTPUT),
        }
        _write_record(run_dir, record)
        log.write("completed", figures=figures)
    return Outcome(owner.run_id, run_dir / OUTPUT, run_dir / BASELINES, record)


def _make(ready: Ready, run_dir: Path, owner: Owner, log: EventLog) -> dict[str, Any]:
    """Train and write ``output/``; return its figures on the dev rows."""
    scratch = _fresh(run_dir / f"tmp-{OUTPUT}")
    method = ready.recipe.method
    if method in BASELINE_METHODS:
        _write_baseline(ready, method, scratch)
        calibration = Calibration(rows=read_estimator(scratch).pack.calibrated_on)
        shares = _scored(ready, scratch, "estimator")
    elif method in CAUSAL_METHODS:
        model = causal.train(ready.causal_job, run_dir, owner, log)
        write_adapter(model, scratch, ready.recipe["base"])
        calibration = Calibration()
        shares = _scored(ready, scratch, "causal")
    else:
        calibration, shares = _make_classifier(ready, scratch, run_dir, owner, log)
    figures: dict[str, Any] = {
        "calibration": {"temperature": calibration.temperature, "rows": calibration.rows},
        "dev": None if shares is None else metrics(shares, ready.dev, ready.question),
    }
    _put(scratch, run_dir / OUTPUT)
    return figures


def _make_classifier(
    ready: Ready, scratch: Path, run_dir: Path, owner: Owner, log: EventLog
) -> tuple[Calibration, Matrix | None]:
    """Write a classifier pack, then the temperature that its own answers on dev rows ask for."""
    job, method = ready.encoder_job, ready.recipe.method
    if method == "head":
        encoder.seed_everything(ready.seeds["init"])
        head = encoder.fit_head(job, encoder.load_body(job))
        log.write("step", step=1, of=1, rows=[example.row_id for example in job.examples])
    else:
        learner, _ = encoder.train(job, run_dir, owner, log)
        head = learner.linear()
        if method == "lora":
            write_adapter(learner.model, scratch, ready.recipe["base"])
        else:
            learner.model.save_pretrained(str(scratch))
            copy_tokeniser(ready.base_dir, scratch)
    pack = _pack(ready)
    write_classifier(scratch, pack, head)
    shares = _scored(ready, scratch, "classifier")
    if shares is None:
        return Calibration(), None
    targets = target_matrix(ready.dev, ready.question)
    logits = logits_from(shares, ready.question.kind)
    calibration = fit_temperature(logits, targets, ready.question.kind)
    pack = replace(pack, temperature=calibration.temperature, calibrated_on=calibration.rows)
    write_classifier(scratch, pack, Linear(head.weight, head.bias))
    return calibration, _scored(ready, scratch, "classifier")


def _pack(ready: Ready) -> ClassifierPack:
    question, reading, method = ready.question, ready.reading, ready.recipe.method
    return ClassifierPack(
        question.kind,
        question.names,
        method,
        reading.max_tokens,
        base=None if method == "full" else ready.base_digest,
        pooling=reading.pooling,
        normalise=reading.normalise,
        low=question.low,
        high=question.high,
    )


def _scored(ready: Ready, pack: Path, form: str) -> Matrix | None:
    if not ready.dev:
        return None
    return score(pack, form, ready.base_dir, ready.question, ready.dev)


def _make_baselines(ready: Ready, run_dir: Path, log: EventLog) -> dict[str, Any]:
    """Train the cheap rungs beside; each with its figures, or with why it could not be made."""
    scratch = _fresh(run_dir / f"tmp-{BASELINES}")
    said: dict[str, Any] = {}
    for name in baselines.NAMES:
        if name == "embedding" and not ready.has_encoder:
            said[name] = {"left_out": "the base is a causal model, not an encoder"}
            continue
        _write_baseline(ready, name, scratch / name)
        shares = _scored(ready, scratch / name, "estimator")
        said[name] = {
            "calibrated_on": read_estimator(scratch / name).pack.calibrated_on,
            "dev": None if shares is None else metrics(shares, ready.dev, ready.question),
        }
        log.write("baseline", name=name, **said[name])
    _put(scratch, run_dir / BASELINES)
    return said


def _write_baseline(ready: Ready, name: str, directory: Path) -> None:
    recipe = ready.recipe
    strength = float(recipe.values.get("train.head_strength", 30))
    balance = bool(recipe.values.get("train.balance", False))
    rows = tuple(row for row in ready.train if row.weight)
    job = baselines.BaselineJob(rows, ready.question, strength, balance, ready.seeds["order"])
    if name == "majority":
        baselines.write_majority(job, directory)
    elif name == "tfidf":
        baselines.write_tfidf(job, directory)
    else:
        under = baselines.Embedding(ready.base_dir, ready.base_digest, ready.reading)
        baselines.write_embedding(job, directory, under)


def _fresh(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _put(scratch: Path, final: Path) -> None:
    """Give a finished folder its name; an earlier one of a run that was killed later goes."""
    if final.exists():
        shutil.rmtree(final)
    scratch.rename(final)


def _files(folder: Path) -> dict[str, Any]:
    manifest = build_manifest(folder).as_record()
    return {"files": manifest["files"]}


def _peak_memory() -> str:
    """Return the highest resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _write_record(run_dir: Path, record: dict[str, Any]) -> None:
    scratch = run_dir / f"tmp-{RUN_FILE}"
    scratch.write_bytes(encode(record))
    scratch.replace(run_dir / RUN_FILE)
    (run_dir / CANCEL_FILE).unlink(missing_ok=True)
