"""The lock: every value that decides the result, resolved and hashed; and the run that it names.

`make_ready` turns recipe, rows and base model into what a trainer needs, and `lock_of` writes down
what it found. Both are pure of side effects: a resume calls them again and compares, so that *any*
difference (recipe, rows, base weights, library versions, threads) is named and refused rather than
trained over.

`run_id` is the digest of the lock without its ``machine`` section: the same work planned on two
machines is the same run, though only one machine class gives the same bits.
"""

from __future__ import annotations

import json
import platform
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from freehold.canonical.json import digest
from freehold.errors import IntegrityError, MissingExtra, SettingsError
from freehold.models.manifest import build_manifest
from freehold.runtimes.base import Question
from freehold.runtimes.encoder import Reading, stated_reading
from freehold.training.causal import CausalJob, sft_arguments
from freehold.training.encoder import FIXED, EncoderJob
from freehold.training.recipe import (
    BASELINE_METHODS,
    CAUSAL_METHODS,
    ENCODER_METHODS,
    STEPPED,
    Recipe,
    TooLong,
)
from freehold.training.rows import DatasetRef, TrainingData, TrainingRow, check_rows
from freehold.training.tokens import (
    Example,
    FastTokeniser,
    Prepared,
    commit_stream,
    prepare,
    prepare_bytes,
)
from freehold.version import __version__

SCHEMA_VERSION = 1
PACKAGES = (
    "accelerate",
    "datasets",
    "numpy",
    "peft",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)
# Of TRL's arguments: paths and names of this machine, nothing that touches a weight.
_NOT_TRAINER = {"output_dir", "run_name", "logging_dir", "hub_token", "hub_model_id", "project"}


@dataclass(frozen=True)
class Ready:
    """A run with its data prepared, not yet begun. `holdout` says that `dev` was cut from the rows.

    `dev` rows calibrate and are measured on; they are never learnt from.
    """

    recipe: Recipe
    question: Question
    dataset: DatasetRef
    base_dir: Path
    base_digest: str
    train: tuple[TrainingRow, ...]
    dev: tuple[TrainingRow, ...]
    holdout: bool
    prepared: Prepared
    threads: int

    @property
    def seeds(self) -> dict[str, int]:
        """Return the seed of each purpose; apart, so that more dropout cannot change the order."""
        seed = int(self.recipe["train.seed"])
        names = ("holdout", "init", "order", "dropout")
        return {name: seed + place * 1_000_003 for place, name in enumerate(names)}

    @property
    def reading(self) -> Reading:
        """How the encoder reads a text: as its own files say, at the recipe's length if given."""
        stated = stated_reading(self.base_dir)
        length = int(self.recipe.values.get("length", stated.max_tokens))
        return Reading(length, stated.pooling, stated.normalise)

    @property
    def has_encoder(self) -> bool:
        """Whether the base model turns texts into vectors, so that they can be embedded."""
        named = _config(self.base_dir).get("architectures") or []
        return not any("CausalLM" in name for name in named)

    @cached_property
    def encoder_job(self) -> EncoderJob:
        """What the encoder's loop needs; dev rows are for it to watch, where it was asked to."""
        watches = self.recipe.values.get("stop.patience", 0) and any(row.weight for row in self.dev)
        return EncoderJob(
            self.recipe,
            self.base_dir,
            self.reading,
            self.question,
            self.prepared.examples,
            self._dev_examples() if watches else (),
            self.seeds,
        )

    @cached_property
    def causal_job(self) -> CausalJob:
        """What the causal loop needs."""
        return CausalJob(self.recipe, self.base_dir, self.prepared.examples, self.seeds)

    @cached_property
    def steps(self) -> int:
        """How many optimiser steps the run takes; a head or a baseline is fitted at once."""
        if self.recipe.method in CAUSAL_METHODS:
            return self.causal_job.steps
        if self.recipe.method in STEPPED:
            return sum(len(batches) for batches in self.encoder_job.epochs)
        return 1

    def _dev_examples(self) -> tuple[Example, ...]:
        """Return dev rows as examples; a long one in pieces, so that none is left out."""
        recipe = Recipe({**self.recipe.values, "data.too_long": TooLong("split")})
        tokeniser = FastTokeniser(self.base_dir)
        return prepare(self.dev, self.question, recipe, tokeniser).examples


def make_ready(recipe: Recipe, data: TrainingData, base_dir: Path, threads: int) -> Ready:
    """Check and prepare everything; raises the error of whatever cannot be trained as asked."""
    check_rows((*data.rows, *data.dev), data.question)
    train, dev, holdout = _arranged(recipe, data)
    if recipe.values.get("stop.patience") and not any(row.weight for row in dev):
        raise SettingsError(
            f"recipe {recipe['name']!r}: stop.patience watches dev rows, and there are none",
            hint="Give the dataset dev rows, set data.holdout, or remove [stop].",
        )
    if recipe.method in BASELINE_METHODS:
        prepared = prepare_bytes(train)
    else:
        _check_base(recipe, base_dir)
        causal = recipe.method in CAUSAL_METHODS
        end = end_token(base_dir) if causal else None
        prepared = prepare(train, data.question, recipe, FastTokeniser(base_dir), end)
    return Ready(
        recipe,
        data.question,
        data.dataset,
        base_dir,
        build_manifest(base_dir).digest,
        train,
        dev,
        holdout,
        prepared,
        threads,
    )


def lock_of(ready: Ready) -> dict[str, Any]:
    """Return the lock: no floats, no text of a row, nothing that is not derived from the input."""
    prepared, question = ready.prepared, ready.question
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "recipe.lock",
        "recipe": ready.recipe.resolved(),
        "question": {
            "kind": question.kind,
            "options": list(question.names),
            "low": question.low,
            "high": question.high,
            "bins": question.bins,
        },
        "base": {"name": ready.recipe["base"], "manifest": ready.base_digest},
        "dataset": {
            "name": ready.dataset.name,
            "root": ready.dataset.root,
            "rows_in": prepared.rows_in,
            "rows_used": prepared.rows_used,
            "dropped": prepared.dropped,
            "dev_rows": len(ready.dev),
            "dev_from": "holdout" if ready.holdout else "dataset",
        },
        "tokens": {
            "commitment": commit_stream(ready.dataset.salt, prepared.examples),
            "dev_commitment": _commit_dev(ready),
            "examples": len(prepared.examples),
            "tokens": prepared.tokens,
            "trained_tokens": prepared.trained_tokens,
        },
        "steps": {"total": ready.steps, "world_size": 1},
        "trainer": _trainer(ready),
        "seeds": ready.seeds,
        "packages": {name: _version(name) for name in PACKAGES},
        "freehold": __version__,
        "machine": machine(ready.threads),
    }


def run_id(lock: dict[str, Any]) -> str:
    """Return the name of the run that a lock describes."""
    return digest({key: value for key, value in lock.items() if key != "machine"})


def machine(threads: int) -> dict[str, Any]:
    """Return what besides the lock decides the bits: instruction set, threads, interpreter."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("training needs torch, which is not installed") from error
    return {
        "threads": threads,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "device": "cpu",
    }


def end_token(base_dir: Path) -> int | None:
    """Return the id that ends a causal model's answer, from its ``config.json``."""
    end = _config(base_dir).get("eos_token_id")
    first = end[0] if isinstance(end, list) and end else end
    return first if isinstance(first, int) else None


def _arranged(
    recipe: Recipe, data: TrainingData
) -> tuple[tuple[TrainingRow, ...], tuple[TrainingRow, ...], bool]:
    """Return train rows, dev rows, and whether the latter were cut from the former."""
    if data.dev or recipe.method not in ENCODER_METHODS or not recipe["data.holdout"]:
        return data.rows, data.dev, False
    held = _holdout(data.rows, recipe.number("data.holdout"), int(recipe["train.seed"]))
    train = tuple(row for row in data.rows if row.row_id not in held)
    return train, tuple(row for row in data.rows if row.row_id in held), True


def _holdout(rows: Sequence[TrainingRow], share: float, seed: int) -> set[str]:
    """Return ids to keep back, never an answer's last row: what nobody learnt cannot be judged."""
    chance = random.Random(f"holdout:{seed}")  # noqa: S311 (a choice of rows, not a secret)
    order = sorted(rows, key=lambda row: row.row_id)
    chance.shuffle(order)
    left = Counter(row.target for row in rows)
    held: set[str] = set()
    for row in order:
        if len(held) >= share * len(rows):
            break
        if left[row.target] > 1:
            left[row.target] -= 1
            held.add(row.row_id)
    return held


def _check_base(recipe: Recipe, base_dir: Path) -> None:
    config = _config(base_dir)
    most, length = config.get("max_position_embeddings"), int(recipe["length"])
    if most is not None and length > int(most):
        raise SettingsError(
            f"recipe {recipe['name']!r}: length {length} is more than the {most} tokens that "
            f"{recipe['base']} reads",
            hint=f"Set length = {most} or less.",
        )


def _config(base_dir: Path) -> dict[str, Any]:
    path = base_dir / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from error
    return config


def _commit_dev(ready: Ready) -> str:
    rows = prepare_bytes(ready.dev).examples if any(row.weight for row in ready.dev) else ()
    return commit_stream(ready.dataset.salt, rows)


def _trainer(ready: Ready) -> dict[str, Any]:
    """Return what the loop decides besides the recipe, a library's defaults included."""
    method = ready.recipe.method
    if method in CAUSAL_METHODS:
        arguments = sft_arguments(ready.causal_job, Path("scratch")).to_dict()
        kept = {key: value for key, value in arguments.items() if key not in _NOT_TRAINER}
        return {"loop": "trl.SFTTrainer", "arguments": _inexact_as_text(kept)}
    reading = ready.reading if method in (*ENCODER_METHODS, "embedding") else None
    read = {"pooling": reading.pooling, "normalise": reading.normalise} if reading else {}
    return {"loop": f"freehold.{method}", **read, **(FIXED if method in STEPPED else {})}


def _inexact_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _inexact_as_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_inexact_as_text(inner) for inner in value]
    return value if isinstance(value, bool | int | str) or value is None else str(value)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
