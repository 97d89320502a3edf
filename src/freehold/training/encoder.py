"""The loop that teaches an encoder: plain, deterministic, resumable to the bit.

`head` fits a linear head on frozen vectors (`linear`). `lora` and `full` start from that head and
train it together with an adapter, or with the whole encoder, by AdamW.

What makes a resumed run equal an uninterrupted one, to the bit, on one machine class:

1. the batches of every epoch follow from the seed alone (`batches`);
2. a checkpoint holds weights, both AdamW moments, and the state of all three random generators;
3. the learning rate is a function of the step, not of a scheduler's state;
4. threads and deterministic kernels are set from the lock before the first number is computed.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.errors import EngineError
from freehold.runtimes.base import Question
from freehold.runtimes.encoder import Reading
from freehold.runtimes.formats import Linear
from freehold.runtimes.torch_stack import Placement, load_pretrained
from freehold.training import checkpoints
from freehold.training.adapters import add_lora
from freehold.training.batches import Batch, schedule
from freehold.training.events import EventLog, cancelled
from freehold.training.linear import fit_linear
from freehold.training.pooling import pooled, vectors
from freehold.training.recipe import Recipe
from freehold.training.state import Progress, load_state, save_state
from freehold.training.targets import row_weights, target_matrix
from freehold.training.tokens import Example

if TYPE_CHECKING:
    import torch

_CLIP = 1.0
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8

# Everything the loop decides that the recipe does not: part of the lock.
FIXED = {
    "optimiser": "adamw",
    "betas": ["0.9", "0.999"],
    "epsilon": "0.00000001",
    "clip_gradient_norm": "1",
    "dtype": "float32",
    "head_start": "logistic regression on frozen vectors",
}


@dataclass(frozen=True, slots=True)
class EncoderJob:
    """What the loop needs: the recipe, the model's folder and reading, and the examples."""

    recipe: Recipe
    base_dir: Path
    reading: Reading
    question: Question
    examples: tuple[Example, ...]
    dev: tuple[Example, ...]
    seeds: dict[str, int]

    @property
    def epochs(self) -> list[list[Batch]]:
        """The batches of every epoch."""
        lengths = [len(example.ids) for example in self.examples]
        recipe = self.recipe
        return schedule(lengths, recipe["train.batch"], self.seeds["order"], recipe["train.epochs"])


@dataclass
class Learner:
    """A model and its head while they learn."""

    model: Any
    head: Any
    optimiser: Any = None
    trainable: dict[str, torch.nn.Parameter] = field(default_factory=dict)

    def linear(self) -> Linear:
        """Return the head as numpy arrays."""
        weight, bias = self.head.weight.detach().numpy(), self.head.bias.detach().numpy()
        return Linear(weight.copy(), bias.copy())


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Set threads and deterministic kernels for a run; what was set before comes back."""
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python: libraries below the loop may draw from any of them."""
    import numpy as np
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def fit_head(job: EncoderJob, model: Any) -> Linear:
    """Return the linear head on the frozen encoder's vectors."""
    features = vectors(model, job.reading, [example.ids for example in job.examples])
    targets = target_matrix(job.examples, job.question)
    balance = bool(job.recipe["train.balance"])
    weights = row_weights(job.examples, job.question, balance=balance)
    strength = job.recipe.number("train.head_strength")
    return fit_linear(features, targets, weights, job.question.kind, strength)


def load_body(job: EncoderJob) -> Any:
    """Return the base encoder; seeded, because weights that a file lacks are drawn at random."""
    seed_everything(job.seeds["init"])
    return load_pretrained(job.base_dir, "AutoModel", Placement(workers=1))


def build(job: EncoderJob, start: Linear | None = None) -> Learner:
    """Return the learner as it stands before the first step; `start` replaces the fitted head."""
    import torch

    model = load_body(job)
    start = start or fit_head(job, model)
    seed_everything(job.seeds["init"])
    if job.recipe.method == "lora":
        model = add_lora(model, job.recipe, "FEATURE_EXTRACTION")
    for name, parameter in model.named_parameters():
        if "pooler." in name:  # not on the path to the vector: it would only hold memory
            parameter.requires_grad_(False)
    head = torch.nn.Linear(start.weight.shape[1], start.weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(start.weight))
        # An unseen option starts far below the others; infinity would make gradients undefined.
        head.bias.copy_(torch.from_numpy(start.bias).clamp(-30.0, 30.0))
    learner = Learner(model, head)
    body = {f"model.{n}": p for n, p in model.named_parameters() if p.requires_grad}
    tip = {f"head.{n}": p for n, p in head.named_parameters()}
    learner.trainable = {**body, **tip}
    decay = job.recipe.number("train.weight_decay")
    groups = [
        {"params": list(body.values()), "peak": job.recipe.number("train.lr")},
        {"params": list(tip.values()), "peak": job.recipe.number("train.head_lr")},
    ]
    learner.optimiser = torch.optim.AdamW(
        groups, lr=0.0, betas=_BETAS, eps=_EPSILON, weight_decay=decay, fused=True
    )
    seed_everything(job.seeds["dropout"])
    return learner


def rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """Return the share of the highest learning rate at a step (counted from 0)."""
    warm = math.ceil(recipe.number("train.warmup") * steps)
    if step < warm:
        return (step + 1) / warm
    if recipe["train.schedule"] == "constant":
        return 1.0
    done = (step - warm) / max(1, steps - warm)
    return (
        0.5 * (1 + math.cos(math.pi * done)) if recipe["train.schedule"] == "cosine" else 1 - done
    )


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets [rows, options] and weights [rows] of all examples, as tensors."""

    values: Any
    weights: Any


def targets_of(job: EncoderJob, examples: Sequence[Example], *, balance: bool) -> Targets:
    """Return what the loss compares with."""
    import torch

    values = target_matrix(examples, job.question)
    weights = row_weights(examples, job.question, balance=balance)
    return Targets(torch.from_numpy(values).float(), torch.from_numpy(weights).float())


def row_losses(logits: Any, targets: Any, kind: str) -> Any:
    """Return the loss of each row; see `targets` for the choice of loss."""
    import torch

    if kind == "labels":
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, targets, reduction="none"
        )
        return losses.mean(dim=1)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def train_step(job: EncoderJob, learner: Learner, batch: Batch, targets: Targets) -> float:
    """Compute one step's gradients and take it; return its loss (weighted mean over the rows).

    Micro-batches add up to exactly the whole batch's gradient, because each part is divided by the
    weight of the whole.
    """
    import torch

    places = torch.tensor(batch)
    whole = targets.weights[places].sum()
    size = job.recipe["train.micro_batch"] or len(batch)
    total = 0.0
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        ids = [job.examples[place].ids for place in part]
        logits = learner.head(pooled(learner.model, job.reading, ids))
        wanted = torch.tensor(part)
        losses = row_losses(logits, targets.values[wanted], job.question.kind)
        loss = (losses * targets.weights[wanted]).sum() / whole
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise EngineError(
            f"the loss is {total}: the run has diverged",
            hint="Lower train.lr or raise train.warmup; the last checkpoint is still good.",
        )
    torch.nn.utils.clip_grad_norm_(learner.trainable.values(), _CLIP)
    learner.optimiser.step()
    learner.optimiser.zero_grad(set_to_none=True)
    return total


def train(
    job: EncoderJob, run_dir: Path, owner: checkpoints.Owner, log: EventLog
) -> tuple[Learner, Progress]:
    """Train from the newest checkpoint, or from the start; return the learner at its best.

    Raises Cancelled (after a checkpoint) on request, EngineError when the loss is not finite.
    """
    learner, progress = build(job), Progress()
    found = checkpoints.newest(run_dir, owner)
    if found.ignored:
        log.write("checkpoints_ignored", checkpoints=list(found.ignored))
    if found.newest is not None:
        progress = load_state(learner, found.newest.state)
        log.write("resumed", step=progress.step)
    targets = targets_of(job, job.examples, balance=bool(job.recipe["train.balance"]))
    epochs = job.epochs
    steps = sum(len(batches) for batches in epochs)
    learner.model.train()
    for epoch in range(progress.epoch, len(epochs)):
        for batch in epochs[epoch][progress.step_in_epoch :]:
            _one_step(job, learner, progress, batch, targets, steps, log)
            due = progress.step == steps or not progress.step % job.recipe["train.checkpoint_every"]
            _keep(learner, progress, run_dir, owner, log, due=due)
        progress.end_epoch()
        if _watch(job, learner, progress, log):
            break
    if progress.best is not None:
        load_best(learner, progress)
    return learner, progress


def _one_step(
    job: EncoderJob,
    learner: Learner,
    progress: Progress,
    batch: Batch,
    targets: Targets,
    steps: int,
    log: EventLog,
) -> None:
    started = time.perf_counter()
    factor = rate_factor(job.recipe, progress.step, steps)
    for group in learner.optimiser.param_groups:
        group["lr"] = group["peak"] * factor
    loss = train_step(job, learner, batch, targets)
    progress.took_step()
    tokens = sum(len(job.examples[place].ids) for place in batch)
    log.write(
        "step",
        step=progress.step,
        of=steps,
        epoch=progress.epoch,
        loss=loss,
        lr=job.recipe.number("train.lr") * factor,
        tokens_per_second=tokens / (time.perf_counter() - started),
        rows=[job.examples[place].row_id for place in batch],
    )


def _keep(
    learner: Learner,
    progress: Progress,
    run_dir: Path,
    owner: checkpoints.Owner,
    log: EventLog,
    *,
    due: bool,
) -> None:
    """Write a checkpoint where one is due; stop after it where a stop was asked for."""
    stop = log.stop_requested()
    if not (stop or due):
        return
    checkpoints.save(run_dir, progress.step, owner, lambda to: save_state(learner, progress, to))
    checkpoints.prune(run_dir)
    log.write("checkpoint", step=progress.step)
    log.sync()
    if stop:
        raise cancelled(run_dir, progress.step)


def _watch(job: EncoderJob, learner: Learner, progress: Progress, log: EventLog) -> bool:
    """Look at the dev rows after an epoch; return whether patience has run out."""
    patience = int(job.recipe["stop.patience"])
    if not patience or not job.dev:
        return False
    import torch

    features = torch.from_numpy(
        vectors(learner.model, job.reading, [example.ids for example in job.dev])
    )
    wanted = targets_of(job, job.dev, balance=False)
    with torch.no_grad():
        losses = row_losses(learner.head(features), wanted.values, job.question.kind)
    loss = float((losses * wanted.weights).sum() / wanted.weights.sum())
    progress.saw_dev_loss(loss, {n: p.detach().clone() for n, p in learner.trainable.items()})
    log.write("epoch", epoch=progress.epoch, dev_loss=loss, best=progress.bad_epochs == 0)
    return progress.bad_epochs >= patience


def load_best(learner: Learner, progress: Progress) -> None:
    """Put the best epoch's weights back."""
    import torch

    with torch.no_grad():
        for name, parameter in learner.trainable.items():
            parameter.copy_((progress.best or {})[name])
