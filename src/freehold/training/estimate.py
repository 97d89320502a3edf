"""What a run will cost, said before it is paid: a formula, corrected by one step that is not kept.

Formulas alone are wrong where activations dominate, which is everywhere on small models; so the
step on the longest batch is really taken, and its time and memory are what `plan` shows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.runtimes.formats import Linear
from freehold.training.causal import load_learner
from freehold.training.encoder import (
    EncoderJob,
    build,
    load_body,
    reproducible,
    targets_of,
    train_step,
)
from freehold.training.lock import Ready
from freehold.training.pooling import padded, vectors
from freehold.training.recipe import CAUSAL_METHODS, ENCODER_METHODS

_BYTES = 4  # float32
_ADAM = 2  # moments per trained weight
_HEAD_SHARE = 3  # a forward pass costs about a third of a training step


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes and seconds; `basis` says which of them was measured.

    `memory_formula` is weights + gradients + moments + activations; `memory` is what to expect,
    measured where the system can tell.
    """

    memory: int
    memory_formula: int
    seconds: float
    basis: str


def estimate(ready: Ready) -> Estimate:
    """Return the expected cost; takes a step or two of the run's own kind and throws it away."""
    method = ready.recipe.method
    with reproducible(ready.threads):
        if method in CAUSAL_METHODS:
            return _causal(ready)
        if method in ENCODER_METHODS:
            return _encoder(ready, ready.encoder_job)
    bytes_in = sum(len(row.text.encode()) for row in ready.train)
    return Estimate(50 * bytes_in, 50 * bytes_in, 0.0, "assumed: a baseline takes seconds")


def _encoder(ready: Ready, job: EncoderJob) -> Estimate:
    if job.recipe.method == "head":
        return _frozen(ready, job)
    import numpy as np

    options = len(job.question.names)
    hidden = int(_config(job.base_dir)["hidden_size"])
    peak = _Peak()
    learner = build(job, Linear(np.zeros((options, hidden)), np.zeros(options)))
    batches = [batch for epoch in job.epochs for batch in epoch]
    cost = [len(b) * max(len(job.examples[place].ids) for place in b) for b in batches]
    targets = targets_of(job, job.examples, balance=False)
    learner.model.train()
    longest = max(range(len(batches)), key=lambda place: cost[place])
    middle = sorted(range(len(batches)), key=lambda place: cost[place])[len(batches) // 2]
    _timed(lambda: train_step(job, learner, batches[longest], targets))
    measured = peak.bytes()
    seconds = _timed(lambda: train_step(job, learner, batches[middle], targets))
    total = sum(cost) + ready.prepared.tokens / _HEAD_SHARE
    formula = _formula(learner.model, job.base_dir, cost[longest])
    return _said(formula, measured, seconds / cost[middle] * total)


def _frozen(ready: Ready, job: EncoderJob) -> Estimate:
    peak = _Peak()
    model = load_body(job)
    some = [example.ids for example in job.examples[:64]]
    tokens = sum(len(ids) for ids in some)
    vectors(model, job.reading, some[:8])
    seconds = _timed(lambda: vectors(model, job.reading, some))
    formula = _BYTES * sum(p.numel() for p in model.parameters())
    return _said(formula, peak.bytes(), seconds / tokens * ready.prepared.tokens)


def _causal(ready: Ready) -> Estimate:
    job = ready.causal_job
    peak = _Peak()
    model = load_learner(job)
    model.train()
    rows = int(job.recipe["train.micro_batch"] or job.recipe["train.batch"])
    longest = sorted((example.ids for example in job.examples), key=len)[-rows:]
    tokens, mask = padded(longest)

    def step() -> None:
        model(input_ids=tokens, attention_mask=mask, labels=tokens).loss.backward()

    _timed(step)
    seconds = _timed(step)
    count = tokens.numel()
    trained = sum(len(job.examples[place].ids) for place in job.order)
    formula = _formula(model, job.base_dir, count)
    return _said(formula, peak.bytes(), seconds / count * trained)


def _said(formula: int, measured: int | None, seconds: float) -> Estimate:
    if measured is None:
        return Estimate(formula, formula, seconds, "time measured on one step, memory by formula")
    return Estimate(measured, formula, seconds, "time and memory measured on one step")


def _formula(model: Any, base_dir: Path, tokens: int) -> int:
    """Return bytes of weights, gradients, moments and activations.

    Activations per layer: tokens x hidden x 34 x 2 bytes and logits over the vocabulary for a
    causal model (Korthikanti et al. 2022, arXiv 2205.05198, in float32; attention scores are not
    stored by the fused kernel).
    """
    config = _config(base_dir)
    weights: int = sum(p.numel() for p in model.parameters())
    trained: int = sum(p.numel() for p in model.parameters() if p.requires_grad)
    layers, hidden = int(config["num_hidden_layers"]), int(config["hidden_size"])
    activations = tokens * hidden * layers * 34 * 2
    if str(config.get("architectures", "")).find("CausalLM") >= 0:
        activations += tokens * int(config["vocab_size"]) * _BYTES * 2
    return _BYTES * (weights + trained * (1 + _ADAM)) + activations


def _config(base_dir: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((base_dir / "config.json").read_bytes())
    return config


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class _Peak:
    """The process's highest memory since this was made; Linux only, else nothing is claimed."""

    def __init__(self) -> None:
        self._reset = False
        with suppress(OSError):  # not Linux, or not allowed: then `bytes` says None
            Path("/proc/self/clear_refs").write_text("5")
            self._reset = True

    def bytes(self) -> int | None:
        """Return the peak in bytes, or None where the system does not tell."""
        if not self._reset:
            return None
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
