"""What a run will do, shown and fixed before anything is spent.

`plan` prepares the data, takes one dry step, and writes a run folder:

```
recipe.lock.json   canonical JSON: every resolved value and hash; names the run
plan.json          what a person sees: counts, three rows with the trained part marked, cost
place.json         where the base model lies on this machine; not part of the run's identity
data/              the rows, the question and the salt: people's texts, nowhere else
```
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freehold.canonical.json import decode, encode
from freehold.errors import Conflict, IntegrityError
from freehold.runtimes.base import OptionText, Question
from freehold.runtimes.torch_stack import available_cores
from freehold.training.checkpoints import differences
from freehold.training.estimate import Estimate, estimate
from freehold.training.lock import Ready, lock_of, make_ready, run_id
from freehold.training.recipe import BASELINE_METHODS, Recipe, recipe_from
from freehold.training.rows import DatasetRef, TrainingData, read_rows, write_rows
from freehold.training.tokens import Example, FastTokeniser, rendered

LOCK_FILE, PLAN_FILE, PLACE_FILE = "recipe.lock.json", "plan.json", "place.json"
DATA, ROWS, DEV, ABOUT = "data", "rows.jsonl", "dev.jsonl", "about.json"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen. `shown` are three rows as the model sees them, ⟦trained part⟧ marked."""

    run_id: str
    lock: dict[str, Any]
    rows_in: int
    rows_used: int
    dropped: dict[str, int]
    dev_rows: int
    longest: int
    tokens: int
    trained_tokens: int
    steps: int
    shown: tuple[str, ...]
    cost: Estimate | None


def plan(
    recipe: Recipe,
    data: TrainingData,
    base_dir: Path,
    run_dir: Path,
    *,
    threads: int | None = None,
    dry_step: bool = True,
) -> Plan:
    """Prepare a run in an empty or absent folder; planning the same run again is harmless.

    Raises what `make_ready` raises, and Conflict when the folder holds another run. Nothing is
    written until everything was prepared.
    """
    ready = make_ready(recipe, data, base_dir, threads or available_cores())
    lock = lock_of(ready)
    _check_folder(run_dir, lock)
    made = _described(ready, lock, estimate(ready) if dry_step else None)
    _write_data(run_dir / DATA, data)
    place = {"base_dir": str(base_dir.resolve()), "threads": ready.threads}
    _write(run_dir / PLACE_FILE, encode(place))
    view = {key: value for key, value in asdict(made).items() if key != "lock"}
    _write(run_dir / PLAN_FILE, json.dumps(view, ensure_ascii=False, indent=2).encode())
    _write(run_dir / LOCK_FILE, encode(lock))  # last: a folder with a lock is planned
    return made


def reopen(run_dir: Path) -> tuple[Ready, dict[str, Any]]:
    """Return a planned run, prepared anew from its files, with its lock.

    Raises Conflict naming each value of the lock that no longer holds: recipe, rows, base model,
    library versions, machine. Raises IntegrityError for a lost or altered file.
    """
    lock = _read_lock(run_dir)
    recorded = json.loads(_read(run_dir / PLAN_FILE))["run_id"]
    if run_id(lock) != recorded:
        raise Conflict(
            f"{run_dir / LOCK_FILE} was changed after the plan: it is run {run_id(lock)}, "
            f"planned was {recorded}",
            hint="A changed recipe is a new run: plan it in a new folder.",
        )
    place = decode(_read(run_dir / PLACE_FILE))
    recipe = recipe_from(lock["recipe"], str(run_dir / LOCK_FILE))
    data = _read_data(run_dir / DATA)
    ready = make_ready(recipe, data, Path(place["base_dir"]), int(place["threads"]))
    changed = differences(lock, lock_of(ready))
    if changed:
        raise Conflict(
            f"run {run_dir} is no longer what was planned: {'; '.join(changed[:5])}",
            hint="Put back what changed, or plan a new run in a new folder.",
            changed=changed,
        )
    return ready, lock


def require_recipe(run_dir: Path, recipe: Recipe) -> None:
    """Raise Conflict naming what differs unless the run was planned from this very recipe."""
    changed = differences(_read_lock(run_dir)["recipe"], recipe.resolved())
    if changed:
        raise Conflict(
            f"the recipe has changed since run {run_dir} was planned: {'; '.join(changed)}",
            hint="Resume with the old recipe, or plan a new run in a new folder.",
            changed=changed,
        )


def _described(ready: Ready, lock: dict[str, Any], cost: Estimate | None) -> Plan:
    prepared = ready.prepared
    return Plan(
        run_id(lock),
        lock,
        prepared.rows_in,
        prepared.rows_used,
        prepared.dropped,
        len(ready.dev),
        max(len(example.ids) for example in prepared.examples),
        prepared.tokens,
        prepared.trained_tokens,
        ready.steps,
        _shown(ready),
        cost,
    )


def _shown(ready: Ready) -> tuple[str, ...]:
    """Return the shortest, the middle and the longest row: faults hide at the ends."""
    ordered = sorted(ready.prepared.examples, key=lambda example: len(example.ids))
    places = sorted({0, len(ordered) // 2, len(ordered) - 1})[:_SHOWN]
    if ready.recipe.method in BASELINE_METHODS:
        return tuple(_plain(ordered[place]) for place in places)
    tokeniser = FastTokeniser(ready.base_dir)
    return tuple(rendered(ordered[place], tokeniser) for place in places)


def _plain(example: Example) -> str:
    target = example.target
    said = ", ".join(target) or "none" if isinstance(target, tuple) else target
    return f"{bytes(example.ids).decode('utf-8')} ⟦{said}⟧"


def _check_folder(run_dir: Path, lock: dict[str, Any]) -> None:
    if (run_dir / LOCK_FILE).is_file():
        changed = differences(_read_lock(run_dir), lock)
        if changed:
            raise Conflict(
                f"{run_dir} holds another run: {'; '.join(changed[:5])}",
                hint="Plan into a new folder.",
                changed=changed,
            )


def _write_data(folder: Path, data: TrainingData) -> None:
    scratch = folder.with_name(f"tmp-{folder.name}")
    for left_over in (scratch, folder):
        if left_over.exists():
            shutil.rmtree(left_over)
    scratch.mkdir(parents=True)
    write_rows(scratch / ROWS, data.rows)
    write_rows(scratch / DEV, data.dev)
    about = {
        "dataset": {"name": data.dataset.name, "root": data.dataset.root},
        "salt": data.dataset.salt.hex(),
        "question": asdict(data.question),
    }
    _write(scratch / ABOUT, encode(about))
    scratch.rename(folder)


def _read_data(folder: Path) -> TrainingData:
    about = decode(_read(folder / ABOUT))
    asked = about["question"]
    options = tuple(OptionText(**option) for option in asked.pop("options"))
    dataset = DatasetRef(**about["dataset"], salt=bytes.fromhex(about["salt"]))
    rows, dev = read_rows(folder / ROWS), read_rows(folder / DEV)
    return TrainingData(Question(options=options, **asked), rows, dev, dataset)


def _read_lock(run_dir: Path) -> dict[str, Any]:
    lock: dict[str, Any] = decode(_read(run_dir / LOCK_FILE))
    return lock


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise IntegrityError(
            f"{path} is missing: the folder holds no planned run",
            hint="Plan the run first: `freehold train RECIPE --plan`.",
        ) from None


def _write(path: Path, data: bytes) -> None:
    scratch = path.with_name(f"tmp-{path.name}")
    with scratch.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(path)
