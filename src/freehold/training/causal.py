"""Teaching a causal language model with TRL and PEFT: their loop, our tokens, our checkpoints.

What is kept out of the library's hands, and why (TRL 1.16, measured):

- **tokens and masks**: rows arrive as `input_ids` and `labels`; with its default `max_length` of
  1024 the library drops rows whose answer lies behind the cut, in silence;
- **order**: our sampler, so that every step's rows are known and stand in the event file;
- **checkpoints**: the library writes them in place and resumes from what it finds, even without
  optimiser state; its folder is moved into ours, sealed, and verified before it is read again;
- **every default** that hides a choice (bf16, gradient checkpointing, reporting) is set by hand.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.errors import EngineError
from freehold.runtimes.torch_stack import Placement, load_pretrained
from freehold.training import checkpoints
from freehold.training.adapters import add_lora, old_names_allowed
from freehold.training.batches import training_order
from freehold.training.encoder import seed_everything
from freehold.training.events import EventLog, cancelled
from freehold.training.recipe import Recipe
from freehold.training.tokens import Example

if TYPE_CHECKING:
    from trl import SFTConfig

_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@dataclass(frozen=True, slots=True)
class CausalJob:
    """What the loop needs: the recipe, the model's folder, and the examples."""

    recipe: Recipe
    base_dir: Path
    examples: tuple[Example, ...]
    seeds: dict[str, int]

    @property
    def order(self) -> list[int]:
        """The examples in training order, all epochs after each other."""
        return training_order(len(self.examples), self.seeds["order"], self.recipe["train.epochs"])

    @property
    def steps(self) -> int:
        """How many optimiser steps the run takes."""
        return -(-len(self.order) // int(self.recipe["train.batch"]))

    def rows_of(self, step: int) -> list[str]:
        """Return the row ids of a step, counted from 1."""
        size = int(self.recipe["train.batch"])
        return [
            self.examples[place].row_id for place in self.order[(step - 1) * size : step * size]
        ]


def quiet_environment() -> None:
    """Switch telemetry and network off; the libraries read these when they are imported."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY"):
        os.environ[name] = "1"


def sft_arguments(job: CausalJob, scratch: Path) -> SFTConfig:
    """Return TRL's configuration with every choice that affects weights written out."""
    quiet_environment()
    from trl import SFTConfig

    recipe = job.recipe
    batch, micro = int(recipe["train.batch"]), int(recipe["train.micro_batch"])
    with old_names_allowed():
        return SFTConfig(
            output_dir=str(scratch),
            max_length=None,
            packing=False,
            padding_free=False,
            shuffle_dataset=False,
            completion_only_loss=False,
            loss_type="nll",
            per_device_train_batch_size=micro or batch,
            gradient_accumulation_steps=batch // micro if micro else 1,
            # One long epoch in our order: nothing is shuffled or cut at an epoch's end.
            num_train_epochs=1,
            max_steps=job.steps,
            learning_rate=recipe.number("train.lr"),
            lr_scheduler_type=_SCHEDULERS[recipe["train.schedule"]],
            warmup_steps=recipe.number("train.warmup"),
            weight_decay=recipe.number("train.weight_decay"),
            max_grad_norm=1.0,
            optim="adamw_torch",
            seed=job.seeds["dropout"],
            data_seed=job.seeds["order"],
            full_determinism=False,
            use_cpu=True,
            bf16=False,
            fp16=False,
            gradient_checkpointing=False,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            save_strategy="steps",
            save_steps=recipe["train.checkpoint_every"],
            logging_strategy="steps",
            logging_steps=1,
            eval_strategy="no",
            report_to=[],
            push_to_hub=False,
            disable_tqdm=True,
            save_total_limit=None,
        )


def load_learner(job: CausalJob) -> Any:
    """Return the base model with fresh adapters, both seeded."""
    seed_everything(job.seeds["init"])
    model = load_pretrained(job.base_dir, "AutoModelForCausalLM", Placement(workers=1))
    seed_everything(job.seeds["init"])
    return add_lora(model, job.recipe, "CAUSAL_LM")


def train(job: CausalJob, run_dir: Path, owner: checkpoints.Owner, log: EventLog) -> Any:
    """Train from the newest checkpoint, or from the start; return the PEFT model.

    Raises Cancelled (after a checkpoint) on request, EngineError when the loss is not finite.
    """
    quiet_environment()
    from transformers import PrinterCallback

    found = checkpoints.newest(run_dir, owner)
    if found.ignored:
        log.write("checkpoints_ignored", checkpoints=list(found.ignored))
    scratch = run_dir / "trl"
    if scratch.exists():
        shutil.rmtree(scratch)  # only ever holds what was not sealed
    trainer = _trainer(job, scratch)
    trainer.remove_callback(PrinterCallback)  # events.jsonl is where a run reports
    trainer.add_callback(_reporter(job, run_dir, owner, log))
    resume: str | None = None
    if found.newest is not None:
        resume = str(found.newest.state)
        log.write("resumed", step=found.newest.step)
    with warnings.catch_warnings():
        # The library warns of its own old names while it runs; a result never depends on them.
        warnings.simplefilter("ignore", FutureWarning)
        trainer.train(resume_from_checkpoint=resume)
    shutil.rmtree(scratch, ignore_errors=True)
    if trainer.state.global_step != job.steps:
        raise cancelled(run_dir, trainer.state.global_step)
    return trainer.model


def _trainer(job: CausalJob, scratch: Path) -> Any:
    arguments = sft_arguments(job, scratch)
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTTrainer

    order = job.order

    class OrderedTrainer(SFTTrainer):  # type: ignore[misc]
        """TRL's trainer, reading in our order."""

        def _get_train_sampler(self, *_: Any) -> list[int]:
            return order

    data = Dataset.from_dict(
        {
            "input_ids": [list(example.ids) for example in job.examples],
            "labels": [list(example.labels) for example in job.examples],
        }
    )
    tokeniser = AutoTokenizer.from_pretrained(str(job.base_dir), local_files_only=True)
    model = load_learner(job)
    with old_names_allowed():
        return OrderedTrainer(
            model=model, args=arguments, train_dataset=data, processing_class=tokeniser
        )


def _reporter(job: CausalJob, run_dir: Path, owner: checkpoints.Owner, log: EventLog) -> Any:
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Writes one event per step, and seals the library's checkpoints."""

        started = time.perf_counter()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, _args: Any, _state: Any, control: Any, **__: Any) -> None:
            if log.stop_requested():
                control.should_save = control.should_training_stop = True

        def on_log(
            self, _args: Any, state: Any, _control: Any, logs: Any = None, **__: Any
        ) -> None:
            if "loss" in (logs or {}):
                seconds = time.perf_counter() - self.started
                _report(job, log, state.global_step, logs, seconds)

        def on_save(self, args: Any, state: Any, _control: Any, **__: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            _seal(folder, state.global_step, run_dir, owner, log)

    return Reporter()


def _report(job: CausalJob, log: EventLog, step: int, logs: dict[str, Any], seconds: float) -> None:
    loss = float(logs["loss"])
    size = int(job.recipe["train.batch"])
    places = job.order[(step - 1) * size : step * size]
    tokens = sum(len(job.examples[place].ids) for place in places)
    log.write(
        "step",
        step=step,
        of=job.steps,
        epoch=(step - 1) * size // len(job.examples),
        loss=loss,
        lr=float(logs["learning_rate"]),
        tokens_per_second=tokens / max(seconds, 1e-9),
        rows=job.rows_of(step),
    )
    if loss != loss:
        raise EngineError(
            "the loss is not a number: the run has diverged",
            hint="Lower train.lr or raise train.warmup; the last checkpoint is still good.",
        )


def _seal(folder: Path, step: int, run_dir: Path, owner: checkpoints.Owner, log: EventLog) -> None:
    def fill(state: Path) -> None:
        for path in sorted(folder.iterdir()):
            if path.name not in ("README.md", "training_args.bin"):
                shutil.move(path, state / path.name)

    checkpoints.save(run_dir, step, owner, fill)
    shutil.rmtree(folder)
    checkpoints.prune(run_dir)
    log.write("checkpoint", step=step)
    log.sync()
