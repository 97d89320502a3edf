"""Low-rank adapters by PEFT: put on a model, written so that the bytes depend on the weights only.

Also `merge`: adapter and base as one model, with the largest difference between the two stated, as
people meet it again and again that a merged model answers differently (PEFT issues 1043, 2502).
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freehold.errors import IntegrityError, SettingsError
from freehold.runtimes.encoder import Encoder, Reading
from freehold.runtimes.formats import PACK_FILE, read_classifier, write_classifier
from freehold.runtimes.torch_stack import Placement, load_pretrained, merge_adapter
from freehold.training.pooling import vectors
from freehold.training.recipe import ALL_LINEAR, Recipe
from freehold.training.tokens import FastTokeniser

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENISER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "Why was my payment declined twice this week?",
    "Zürich, 12:30 – 3 × 4 = 12",
    "a",
)
MERGE_TOLERANCE = 1e-4
_NOT_ADAPTED = ("pooler.", "lm_head", "embed_out")


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model's folder; `largest_difference` of vectors or logits on the probe texts."""

    directory: Path
    largest_difference: float
    probes: int


def add_lora(model: Any, recipe: Recipe, task_type: str) -> Any:
    """Return the model with fresh adapters; SettingsError when no layer has a target's name."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=recipe["adapter.rank"],
        lora_alpha=recipe["adapter.alpha"],
        lora_dropout=recipe.number("adapter.dropout"),
        target_modules=_targets(model, recipe["adapter.targets"]),
        task_type=task_type,
    )
    with old_names_allowed():
        return get_peft_model(model, config)


@contextmanager
def old_names_allowed() -> Iterator[None]:
    """Pass over one warning of the pinned libraries about each other.

    PEFT 0.21 and TRL 1.16 still use `gradient_checkpointing`, which Transformers 5.23 renamed.
    """
    with warnings.catch_warnings():
        said = ".*gradient_checkpointing.* is deprecated"
        warnings.filterwarnings("ignore", message=said, category=FutureWarning)
        yield


def _targets(model: Any, wanted: str | tuple[str, ...]) -> list[str]:
    """Return full names of the layers to adapt; those off the path to the answer are left out."""
    import torch

    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(_NOT_ADAPTED)
    ]
    if wanted == ALL_LINEAR:
        return linear
    for target in wanted:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            last = sorted({name.rpartition(".")[2] for name in linear})
            raise SettingsError(
                f"adapter.targets: this model has no linear layer {target!r}",
                hint=f"Its layers are called {', '.join(last)}.",
            )
    return [name for name in linear if any(f".{name}".endswith(f".{one}") for one in wanted)]


def write_adapter(model: Any, directory: Path, base: str) -> None:
    """Write a PEFT folder; `base` names the base model in place of a path of this machine."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    save_file(tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    # Sets have no order: written as they come, two equal runs would differ in their bytes.
    plain = {key: sorted(v) if isinstance(v, set) else v for key, v in config.items()}
    plain |= {"base_model_name_or_path": base, "inference_mode": True}
    text = json.dumps(plain, indent=2, sort_keys=True, default=_named)
    (directory / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def _named(value: Any) -> Any:
    """Return an enumeration's value, as PEFT writes it."""
    return getattr(value, "value", str(value))


def copy_tokeniser(base_dir: Path, directory: Path) -> None:
    """Copy the tokenizer's files byte for byte: a rewritten tokenizer may give other ids."""
    for name in TOKENISER_FILES:
        if (base_dir / name).is_file():
            shutil.copyfile(base_dir / name, directory / name)


def merge(adapter_dir: Path, base_dir: Path, out: Path) -> Merged:
    """Write base and adapter as one model into `out`, and check that it answers the same.

    A classifier pack becomes a ``full`` one; any other PEFT folder a causal model. Raises
    IntegrityError when the saved model differs from base plus adapter by more than
    `MERGE_TOLERANCE`.
    """
    classifier = (adapter_dir / PACK_FILE).is_file()
    auto = "AutoModel" if classifier else "AutoModelForCausalLM"
    placement = Placement(workers=1)
    merged = merge_adapter(load_pretrained(base_dir, auto, placement), adapter_dir)
    out.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(str(out))
    copy_tokeniser(base_dir, out)
    if classifier:
        pack, head = read_classifier(adapter_dir)
        write_classifier(out, replace(pack, method="full", base=None), head)
        reading = Reading(pack.max_tokens, pack.pooling, pack.normalise)
        difference = _encoder_difference(adapter_dir, base_dir, out, reading)
    else:
        difference = _causal_difference(adapter_dir, base_dir, out)
    if not difference <= MERGE_TOLERANCE:
        raise IntegrityError(
            f"{out}: the merged model differs from base plus adapter by {difference:.2e}, "
            f"more than {MERGE_TOLERANCE:.0e}",
            hint="Serve the adapter on its base instead of the merged model.",
        )
    return Merged(out, difference, len(PROBES))


def _unmerged(adapter_dir: Path, base_dir: Path, auto: str) -> Any:
    from peft import PeftModel

    model = load_pretrained(base_dir, auto, Placement(workers=1))
    with old_names_allowed():
        return PeftModel.from_pretrained(model, str(adapter_dir), is_trainable=False).eval()


def _encoder_difference(adapter_dir: Path, base_dir: Path, out: Path, reading: Reading) -> float:
    import torch

    apart = _unmerged(adapter_dir, base_dir, "AutoModel")
    ids = FastTokeniser(base_dir).frame(PROBES)
    before = torch.from_numpy(vectors(apart, reading, ids))
    after = torch.from_numpy(Encoder(out, reading, placement=Placement(workers=1)).embed(PROBES))
    return float((before - after).abs().max())


def _causal_difference(adapter_dir: Path, base_dir: Path, out: Path) -> float:
    import torch

    apart = _unmerged(adapter_dir, base_dir, "AutoModelForCausalLM")
    whole = load_pretrained(out, "AutoModelForCausalLM", Placement(workers=1))
    largest = 0.0
    with torch.inference_mode():
        for ids in FastTokeniser(base_dir).frame(PROBES):
            tokens = torch.tensor([ids])
            gap = apart(input_ids=tokens).logits - whole(input_ids=tokens).logits
            largest = max(largest, float(gap.abs().max()))
    return largest
